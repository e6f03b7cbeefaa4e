"""The notebooks run as printed, but for smaller numbers, and are notebooks to jupytext."""

import runpy
import shlex

import matplotlib
import pytest

from tests.docs.pages import BLOCK, PAGES, ROOT

HOOK = runpy.run_path(str(ROOT / "docs/hooks/notebooks.py"))
NOTEBOOKS = {name.removeprefix("docs/notebooks/"): text for name, text in PAGES.items() if "/notebooks/" in name}
SMALLER = {
    "epochs: 15": "epochs: 1",
    "epochs=10": "epochs=2",
    "epochs=60": "epochs=5",
    "range(15)": "range(2)",
    'test, "standard"': 'test, "paper"',
    '("lesions", 50)': '("lesions", 12)',
    '("lesions", 40)': '("lesions", 12)',
    "--quiet": "--quiet --jobs 1",
}
"""What takes time; each is in one notebook at least."""
SHOWS = {
    "first-study.md": (["24 images of the classes ['benign', 'malignant']", "Report: results/report.html", "pgd"], 2),
    "evaluate-a-monai-model.md": (["(24, 1, 24, 24) images, 6 for the test", "\n[]\n", "paper", "one-step"], 1),
    "train-your-own-module.md": (["DropMax2d", "rst+dm - trained for 2 epochs", "apgd 5/255"], 1),
    "audit-before-you-split.md": (["LABEL CONFLICT", "3 pairs are copies", "group - 0 test images"], 1),
    "what-a-certificate-says.md": (["ibp - trained for 5 epochs", "certified", "True\n"], 1),
}
"""Parts of what each prints, and its number of figures."""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name, mirst, tmp_path, monkeypatch):
    if "monai" in name:
        pytest.importorskip("monai", reason="mirst[bundle] is not installed")

    def in_this_process(code: str) -> str:
        done = [mirst(*shlex.split(line)[1:]) for line in code.splitlines()]
        assert [code for code, _, _ in done] == [0] * len(done)
        return "".join(out for _, out, _ in done)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    text = NOTEBOOKS[name]
    for long, short in SMALLER.items():
        text = text.replace(long, short)
    with matplotlib.rc_context({"backend": "agg"}):
        cells = list(HOOK["run_cells"](text, in_this_process))
    parts, figures = SHOWS[name]
    printed = "".join(out for _, out, _ in cells)
    assert [part for part in parts if part not in printed] == []
    assert sum(len(drawn) for _, _, drawn in cells) == figures
    assert all(png.startswith(b"\x89PNG") for _, _, drawn in cells for png in drawn)


def test_what_is_made_smaller_is_there():
    assert len(NOTEBOOKS) == 5
    assert all(any(long in text for text in NOTEBOOKS.values()) for long in SMALLER)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_jupytext_reads_the_cells_that_run(name):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    cells = [cell.source for cell in jupytext.reads(NOTEBOOKS[name], fmt="md").cells if cell.cell_type == "code"]
    blocks = [found[3].strip() for found in BLOCK.finditer(NOTEBOOKS[name]) if found[2] in ("python", "bash")]
    assert [cell.removeprefix("%%bash\n").strip() for cell in cells] == blocks
