import io
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from mirst.display import JsonLines, StudyDisplay, estimate_text
from mirst.study import ColumnEstimate, Estimate, Plan, Step
from mirst.training import Epoch


def estimate(seconds, **changes):
    column = ColumnEstimate("rst+dm", 60, seconds / 30, 9.0, 600_000_000, 0)
    values = {"done": 0, "jobs": 2, "memory": 1_940_000_000, "gpu_memory": 0}
    return Estimate(columns=[column], seconds=seconds, **values | changes)


def test_an_estimate_in_plain_words():
    table, sentence = estimate_text(estimate(41 * 60)).rsplit("\n", 1)
    assert sentence == "About 41 min for 60 trials, 2 at a time; about 1.9 GB of memory."
    assert table.splitlines()[1].split() == ["rst+dm", "60", "82", "s", "9", "s", "0.6", "GB"]
    text = estimate_text(estimate(60, done=3, gpu_memory=4_000_000_000, jobs=99))
    assert text.endswith("60 at a time; about 1.9 GB of memory and 4.0 GB of the GPU's; 3 trials are done already.")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.21, "0.21 s"), (99, "99 s"), (100, "1.7 min"), (5400, "90 min"), (6000, "1 h 40 min"), (190_000, "2 days 5 h")],
)
def test_durations(seconds, words):
    assert f"About {words} for" in estimate_text(estimate(seconds))


def test_json_lines_tell_plan_epochs_ends_and_the_result():
    lines = []
    display = JsonLines(lines.append)
    epoch = Epoch(number=1, loss=0.5, terms={"clean": 0.2}, eps_share=1.0, clean=None, attacked=0.25, seconds=2.0)
    with display:
        display.plan(Plan({"ce-fold0-seed0": "ce", "ce-fold1-seed0": "ce"}, 1, 0, 2, 2, None))
        display.step(Step("ce-fold0-seed0", epoch))
        display.step(Step("ce-fold0-seed0", None, "the loss is nan"))
    display.result(Path("out"), Path("out/report.html"))
    plan, told, end, result = map(json.loads, lines)
    trials = ["ce-fold0-seed0", "ce-fold1-seed0"]
    assert plan == {"event": "plan", "pending": trials, "done": 1, "reused": 0, "epochs": 2, "jobs": 2}
    assert told == {"event": "epoch", "trial": trials[0], "seconds_left": None, **asdict(epoch)}
    assert end == {"event": "end", "trial": trials[0], "diverged": "the loss is nan"}
    assert result == {"event": "result", "results": "out", "report": "out/report.html"}


@pytest.mark.parametrize("quiet", [False, True])
def test_a_quiet_display_only_says_where_the_results_are(quiet, tmp_path):
    (tmp_path / "table.md").write_text("| metric |\n|---|\n")
    stream = io.StringIO()
    display = StudyDisplay(Console(file=stream, quiet=quiet))
    with display:
        display.plan(Plan({"ce-fold0-seed0": "ce"}, 0, 0, 2, 1, None))
        display.step(Step("ce-fold0-seed0", None))
    display.result(tmp_path, tmp_path / "report.html")
    told = stream.getvalue()
    assert told.endswith(f"Results: {tmp_path}\nReport: {tmp_path}/report.html\n")
    assert ("| metric |" in told) == ("ce-fold0-seed0: done" in told) == (not quiet)


def test_without_colours_where_they_are_not_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    display = StudyDisplay(Console(file=stream, force_terminal=True, width=20))
    with display:
        display.plan(Plan({"ce-fold0-seed0": "ce"}, 0, 0, 2, 1, None))
        display.step(Step("ce-fold0-seed0", None))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", stream.getvalue())
