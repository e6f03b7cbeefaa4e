"""What every command owes to people and programs."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest

import mirst.cli
from mirst.cli.exit_codes import ExitCode
from mirst.display import as_json

pytestmark = pytest.mark.usefixtures("unpainted")

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
SOURCES = [path.read_text() for path in sorted(Path(mirst.cli.__file__).parent.glob("*.py"))]


def object_of(told):
    """The one JSON object of standard output; NaN would be a constant that JSON lacks."""
    code, out, _ = told
    assert code == 0
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_commands_are_in_panels(mirst):
    code, text, _ = mirst("--help")
    assert code == 0
    titles = re.findall(r"─ ([A-Z][a-z ]+) ─", text)
    assert set(titles) == {"Options", "A study", "One model", "Data", "Look at models"}
    assert "─ Commands ─" not in text


def test_completion_names_commands_and_options(mirst, monkeypatch):
    monkeypatch.setenv("_MIRST_COMPLETE", "complete_bash")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "mirst eva")
    monkeypatch.setenv("COMP_WORDS", "mirst eva")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert mirst()[1].split() == ["evaluate"]


def test_no_color_is_respected(mirst, monkeypatch):
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colour.search(mirst("status", "--help")[1]), "or the test would show nothing"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour.search(mirst("status", "--help")[1])


def test_the_page_of_exit_codes_agrees_with_the_code():
    listed = re.findall(r"^\| (\d+) \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    assert [(int(code), name) for code, name in listed] == [(int(code), code.name) for code in ExitCode]


def test_commands_end_with_no_other_code():
    """Every call of exit and Exit names its code, or takes none."""
    ends = [
        call
        for source in SOURCES
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("sys.exit", "typer.Exit", "exit")
    ]
    assert len(ends) >= 4
    assert all(ast.unparse(one.args[0]).startswith("ExitCode") for one in ends if one.args)


def test_evaluate_prints_one_object(mirst, finished, phantoms, tmp_path):
    model = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
    told = mirst("evaluate", model, "--data", phantoms, "--attack", "fgsm", "--auc", "--json", "--out", tmp_path)
    found = object_of(told)
    assert [row["attack"] for row in found["metrics"]] == ["none", "fgsm"]
    assert set(found) == {
        *("model", "data", "suite", "eps", "metrics", "auc_attacked", "remarks", "warnings", "rows"),
    }
    assert "attack" in told[2]
    assert Path(found["rows"]).is_file()


def test_certify_prints_one_object(mirst, finished, phantoms):
    model = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
    found = object_of(mirst("certify", model, "--data", phantoms, "--eps", "1/255", "--json"))
    assert found["method"] == "interval"
    assert found["eps"] == [1 / 255]
    assert {row["metric"] for row in found["metrics"]} >= {"f1", "sensitivity"}
    assert len(found["images"]) == 24


def test_predict_and_status_print_one_object(mirst, finished, phantoms):
    model = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
    assert len(object_of(mirst("predict", model, phantoms, "--json", "-"))["predictions"]) == 24
    assert {trial["state"] for trial in object_of(mirst("status", finished, "--json"))["trials"]} == {"done"}


def test_after_an_error_standard_output_is_empty(mirst, tmp_path):
    for command in (("evaluate", "x.safetensors", "--data", tmp_path), ("status", tmp_path)):
        code, out, error = mirst(*command, "--json")
        assert (code, out) == (ExitCode.bad_input, "")
        assert error.startswith("mirst: ")
        assert error.count("\n") == 1


def test_no_number_that_json_lacks_is_printed():
    value = {"a": [float("nan"), (float("inf"), 1.0)], "b": {"c": float("-inf")}}
    assert json.loads(as_json(value)) == {"a": [None, [None, 1.0]], "b": {"c": None}}


def test_help_imports_nothing_heavy(mirst, monkeypatch):
    """It takes a fifth of a second; torch alone takes longer."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "pandas")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert mirst("--help")[0] == 0
