import re
import shutil
from html.parser import HTMLParser

import pytest

from mirst.errors import MirstError
from mirst.report import notes, paper_table, write_report
from mirst.report.figures import example_figure
from mirst.study import read_results


@pytest.fixture
def results(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "small")
    return read_results(tmp_path / "small")


def changed(results, change):
    """The results with other outcome rows."""
    rows = change(results.outcomes.copy())
    return type(results)(results.folder, results.spec, results.run, rows, results.summary)


def test_the_table_has_the_papers_shape_and_the_summarys_numbers(results):
    lines = paper_table(results).splitlines()
    assert lines[0] == "| metric | attack | ce | mirst+dm |"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:8]]
    assert [row[:2] for row in rows] == [
        [metric, attack]
        for metric in ("F1 score", "Sensitivity")
        for attack in ("no attack", "fgsm (eps 5/255)", "pgd (eps 5/255)")
    ]
    summary = results.summary.set_index(["defense", "attack", "metric"])
    cell = summary.loc[("mirst", "pgd", "sensitivity")]
    assert rows[5][3] == f"{cell['mean']:.3f} ± {cell['std']:.3f}"


def test_the_page_is_whole_and_needs_no_network(results):
    page = write_report(results.folder).read_text()
    assert (results.folder / "table.md").read_text() == paper_table(results)
    sources = []

    class Collector(HTMLParser):
        def handle_starttag(self, tag, attrs):
            sources.extend(value for name, value in attrs if name in ("src", "href"))
            assert tag not in ("script", "link", "iframe")

    Collector().feed(page)
    assert len(sources) == 2 + 2  # two charts, examples of two defenses
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"https?://", page)
    assert all(note.split(".")[0] in page for note in ["Mean ± standard deviation over 2 group folds, 2 seed(s)"])


def test_the_constant_answer_stands_below_every_two_class_table(results):
    """12 of 24 phantoms are malignant: precision 1/2, recall 1, F1 2/3."""
    assert any("F1 0.667 and sensitivity 1.000" in note for note in notes(results))


def test_a_collapsed_trial_is_named(results):
    def collapse(rows):
        at = (rows["defense"] == "ce") & (rows["fold"] == 1) & (rows["seed"] == 0) & (rows["attack"] == "none")
        return rows.assign(prediction=rows["prediction"].where(~at, "benign"))

    found = [
        note for note in notes(changed(results, collapse)) if note.startswith("COLLAPSED: ce on fold 1 with seed 0")
    ]
    assert len(found) == 1
    assert "answers benign for every test image" in found[0]


def test_random_folds_are_called_leaking(results):
    spec = results.spec.model_copy(update={"folds": results.spec.folds.model_copy(update={"kind": "random"})})
    leaking = type(results)(results.folder, spec, results.run, results.outcomes, results.summary)
    assert any("RANDOM FOLDS LEAK" in note for note in notes(leaking))
    assert not any("LEAK" in note for note in notes(results))


def test_an_attack_that_cannot_reach_its_edge_is_called_weak(results):
    """The small study's PGD makes 3 steps of 0.001 in a ball of 5/255."""
    weak = [note for note in notes(results) if "weak by its settings" in note]
    assert weak == ["pgd is weak by its settings: 3 steps of 0.001 reach 0.003, inside its ball of 0.01961."]


def test_without_examples_the_report_still_stands(results):
    for path in results.folder.glob("trials/*/examples.npz"):
        path.unlink()
    assert example_figure(results, "ce", False) is None
    assert "kept no examples" in write_report(results.folder).read_text()


def test_names_are_escaped(results):
    folder = results.folder.rename(results.folder.with_name("<script>alert(1)<_script>"))
    assert "<script>" not in write_report(folder).read_text()


def test_a_folder_without_results_gets_a_sentence(tmp_path):
    with pytest.raises(MirstError, match="no finished study"):
        write_report(tmp_path)
