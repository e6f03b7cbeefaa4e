"""Every Python block of the pages runs; `test_readme`, `test_from_fit_to_report` and `test_notebooks` run theirs."""

import doctest
import re

from mirst.defenses import CE
from tests.docs.pages import blocks
from tests.helpers import small_batch, small_cnn

PYTHON = list(blocks("python", "py", "pycon"))


def on(page: str) -> list[str]:
    return [text for name, text in PYTHON if name == page]


def test_no_other_page_has_a_block():
    tested = {"README.md", "docs/attacks.md", "docs/from-fit-to-report.md", "docs/training-extensions.md"}
    assert {name for name, _ in PYTHON if not name.startswith("docs/notebooks/")} == tested


def test_the_session_on_attacks_runs():
    (block,) = on("docs/attacks.md")
    test = doctest.DocTestParser().get_doctest(block, {}, "attacks", None, 0)
    shown = []
    result = doctest.DocTestRunner().run(test, out=shown.append)
    assert result.attempted > 5
    assert result.failed == 0, "".join(shown)


def test_the_blocks_on_training_extensions_run():
    use, own = on("docs/training-extensions.md")
    names = {"model": small_cnn(), "data": [small_batch()], "defense": CE()}
    exec(use, names)
    exec(own, names)
    (extension,) = re.findall(r"^class (\w+)", own, re.MULTILINE)
    exec(f"fit(model, data, defense, extensions=[{extension}()])", names)
