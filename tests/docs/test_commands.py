"""Every command line of the pages is parsed by the real command line; studies in YAML name keys that exist."""

import importlib.util
import re
import shlex
import tomllib

import pytest
import yaml
from typer.main import get_command

from mirst.cli.commands import app
from mirst.study import StudySpec
from tests.docs.pages import PAGES, ROOT, SHELL, blocks

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
UNCHECKED = ("cd ", "head=", "#", "python -m monai.bundle", "python -m venv")
"""How lines begin that nothing here can check."""


def lines(text: str) -> list[str]:
    """The command lines of a block, without prompts and comments."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.removeprefix("$ ") for line in joined.splitlines() if re.match(r"(\$ )?[\w./#]", line)]


COMMANDS = [(page, line) for page, text in blocks(*SHELL) for line in lines(text)]
INLINE = [
    (page, " ".join(found.split()))
    for page, text in PAGES.items()
    for found in re.findall(r"`(mirst [a-z][^`]*)`", text)
    if page != "CHANGELOG.md"
]
"""Commands in sentences, of which many leave out required arguments."""


def parsed(arguments: list[str], *, whole: bool) -> None:
    """Parse as `mirst` does, without running the command; with `whole`, required arguments must be there."""
    command, context, name = get_command(app), None, "mirst"
    while hasattr(command, "commands") and arguments:
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
        context.resilient_parsing = False  # or an unknown command is no error
        name, command, arguments = command.resolve_command(context, arguments)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = {one.partition("=")[0] for one in arguments if one.startswith("--")}
    assert given <= known | {"--help"}, given - known
    command.make_context(name, arguments, parent=context, resilient_parsing=not whole)


def check(line: str) -> None:
    line = re.sub(r"^(srun .* -- |entrypoint: )", "", line)  # a command that starts another
    program, *arguments = shlex.split(line, comments=True)
    match program.removeprefix(".venv/bin/"):
        case "mirst":
            parsed(arguments, whole=True)
            for study in (one for one in arguments if one.startswith("studies/")):
                assert (ROOT / study).is_file()
        case "make":
            assert all(re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) for target in arguments)
        case "pip":
            assert set(re.findall(r"\[([\w-]+)\]", line)) <= set(EXTRAS)
        case "python" if arguments[1].startswith("benchmarks"):
            assert importlib.util.find_spec(arguments[1])
        case other:
            raise AssertionError(f"{other}: check its lines here, or name them in UNCHECKED")


def test_there_are_commands():
    assert len(COMMANDS) > 60
    assert len(INLINE) > 60


@pytest.mark.parametrize("page", sorted({page for page, _ in COMMANDS}))
def test_every_command_of_a_page_is_parsed(page):
    for line in [line for where, line in COMMANDS if where == page and not line.startswith(UNCHECKED)]:
        check(line)


@pytest.mark.parametrize("page", sorted({page for page, _ in INLINE}))
def test_commands_in_sentences_have_options_that_exist(page):
    for line in [line for where, line in INLINE if where == page]:
        parsed(shlex.split(line)[1:], whole=False)


def test_a_misspelt_command_fails():
    """Or the tests above would pass on anything."""
    with pytest.raises(AssertionError, match="--suit"):
        check("mirst evaluate RESULTS --suit standard")
    with pytest.raises(Exception, match="Missing"):
        check("mirst run")
    with pytest.raises(Exception, match="No such command"):
        parsed(["evalute", "RESULTS"], whole=False)


def test_yaml_names_keys_of_a_study():
    known = {field.alias or name for name, field in StudySpec.model_fields.items()} | {"_exclude"}
    studies = [(page, yaml.safe_load(text)) for page, text in blocks("yaml")]
    assert len(studies) > 8
    for page, study in studies:
        assert set(study) <= known, page
