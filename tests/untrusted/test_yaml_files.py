"""YAML that asks for more time, memory or trust than a study needs."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirst.errors import MirstError
from mirst.study import load_spec, parse_defense, read_results, study_status
from mirst.untrusted.yaml_files import MAX_BYTES, MAX_QUOTED, parse_yaml, read_yaml

LEVELS = list(zip("abcdefgh", "bcdefghi", strict=True))
LAUGHS = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in LEVELS)
MERGES = "a: &a {x: 1}\n" + "".join(f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 9)}]}}\n" for old, new in LEVELS)

BAD = {
    "an alias bomb": (LAUGHS, "more than 20000 values, with aliases expanded"),
    "an alias bomb of merges": (MERGES, "more than 20000 values, with aliases expanded"),
    "a list in itself": ("a: &a [*a]", "is inside the value that it refers to"),
    "a mapping in itself": ("&a {b: {c: *a}}", "is inside the value that it refers to"),
    "deep lists": ("[" * 10_000, "more than 30 deep"),
    "deep mappings": ("{a: " * 10_000, "more than 30 deep"),
    "deep blocks": ("- " * 10_000, "more than 30 deep"),
    "many values": ("- 1\n" * 25_000, "more than 20000 values"),
    "a large file": ("#" * (MAX_BYTES + 1), "larger than"),
    "a long text": ("a: " + "x" * 20_000, "longer than 10000 characters"),
    "a number to the base of 60": ("a: " + "1:" * 20_000 + "1", "longer than 10000 characters"),
    "a number of many digits": ("a: " + "9" * 9_000, "a value in it cannot be read"),
    "a fraction beyond all bounds": ("a: " + "1:" * 4_000 + "1.5", "a value in it cannot be read"),
    "a day that is none": ("a: 2001-99-99", "a value in it cannot be read"),
    "a key twice": ("training: {epochs: 3, lr: 1, epochs: 4}", "it has the key epochs twice"),
    "an object": ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "a long tag": ("!" * 20_000, "could not determine a constructor"),
    "a list as key": ("? [a]\n: 1", "unhashable key"),
    "two documents": ("--- 1\n--- 2", "expected a single document"),
    "no text": ("a: \0", "special characters are not allowed"),
}


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD)
def test_each_gets_one_short_sentence(tmp_path, text, words):
    (tmp_path / "study.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(MirstError, match=words) as caught:
        load_spec(tmp_path / "study.yaml")
    assert str(caught.value).startswith(f"{tmp_path / 'study.yaml'} is not valid YAML: ")
    with pytest.raises(MirstError) as again:
        parse_yaml(text)
    assert len(str(again.value)) < 3 * MAX_QUOTED
    assert time.process_time() - started < 30, "hangs"


def test_aliases_that_a_person_writes_are_read(tmp_path):
    text = "eps: &eps 8/255\na: &a {name: mirst, steps: 3, eps: *eps}\nb: {<<: *a, steps: 4}\nc: [*a, *a]\n"
    read = parse_yaml(text)
    assert read["b"] == {"name": "mirst", "steps": 4, "eps": "8/255"}
    assert read["c"] == [read["a"], read["a"]]
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(MirstError, match="not valid YAML"):
        read_yaml(tmp_path / "bytes.yaml")


def test_a_results_folder_that_was_tampered_with_gets_a_sentence(finished, tmp_path):
    study = shutil.copytree(finished, tmp_path / "study")
    for name, content, words in (
        ("run.json", "[" * 100_000, r"run\.json is damaged"),
        ("run.json", "{}", r"run\.json is damaged \('data'\)"),
        ("study.yaml", LAUGHS, r"study\.yaml is not valid YAML"),
        ("study.yaml", "training: {epochs: -1}", r"study\.yaml: training: "),
    ):
        (study / name).write_text(content)
        with pytest.raises(MirstError, match=words):
            read_results(study)
    with pytest.raises(MirstError, match="contains a study that this version cannot read"):
        study_status(study)


def test_what_never_ends_is_read_to_the_bound_alone():
    with pytest.raises(MirstError, match="larger than"):
        read_yaml(Path("/dev/zero"))


PIECES = st.sampled_from([
    "a: ", "&a ", "*a ", "<<: ", "[", "]", "{", "}", "- ", "? ", ", ", "\n", "\n  ", "'", '"', "!!int ", "!x ",
    "#", "%", "1", "0x", "1:2", "2001-01-01", ".inf", "null", "--- ", "\\", ">\n", "|", "~", "\t", "\x85", "é", "=",
    "!!float ", "data: ", "training: ", "epochs: ", "defenses: ", "name: ", "ce",
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_text_gives_a_study_or_an_error(text):
    for parse in (lambda one: load_spec(None, [f"data={one}", f"training={one}"]), parse_defense):
        with suppress(MirstError):
            parse(text)
