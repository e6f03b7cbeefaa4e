import io
import json
import math
import os
import re
import threading
from contextlib import suppress
from dataclasses import asdict, replace
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
    assert sentence == "About 41 min for 60 trials, 2 in parallel; about 1.9 GB of memory."
    assert table.splitlines()[1].split() == ["rst+dm", "60", "82", "s", "9", "s", "0.6", "GB"]
    text = estimate_text(estimate(60, done=3, gpu_memory=4_000_000_000, jobs=99))
    assert text.endswith("60 in parallel; about 1.9 GB of memory and 4.0 GB of the GPU's; 3 trials are done.")


def test_remarks_on_the_data_come_first():
    warned = estimate(60, remarks=("FEW GRAY LEVELS: one.",))
    assert estimate_text(warned) == "Data: FEW GRAY LEVELS: one.\n" + estimate_text(estimate(60))
    stream, lines = io.StringIO(), []
    told = Plan({"ce-fold0-seed0": "ce"}, 0, 0, 2, 1, None, ("FEW GRAY LEVELS: one.",))
    with StudyDisplay(Console(file=stream)) as display:
        display.plan(told)
    assert "Data: FEW GRAY LEVELS: one.\n" in stream.getvalue()
    JsonLines(lines.append).plan(told)
    assert json.loads(lines[0])["remarks"] == ["FEW GRAY LEVELS: one."]


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
    nameless = replace(epoch, number=2, attacked=math.nan)
    with display:
        display.plan(
            Plan({"ce-fold0-seed0": "ce", "ce-fold1-seed0": "ce"}, 1, 0, 2, 2, None, ("1 file was ignored: a.",))
        )
        display.step(Step("ce-fold0-seed0", epoch))
        display.step(Step("ce-fold0-seed0", nameless))
        display.step(Step("ce-fold0-seed0", None, "the loss is nan"))
        display.step(Step("ce-fold1-seed0", None, killed="killed by SIGKILL", retry="alone"))
    display.result(Path("out"), Path("out/report.html"))
    plan, told, unknown, end, kill, result = map(json.loads, lines)
    trials = ["ce-fold0-seed0", "ce-fold1-seed0"]
    remarks = {"remarks": ["1 file was ignored: a."]}
    assert plan == {"event": "plan", "pending": trials, "done": 1, "reused": 0, "epochs": 2, "jobs": 2, **remarks}
    assert told == {"event": "epoch", "trial": trials[0], "seconds_left": None, **asdict(epoch)}
    assert end == {"event": "end", "trial": trials[0], "diverged": "the loss is nan", "killed": None}
    assert unknown["attacked"] is None
    assert kill == {"event": "kill", "trial": trials[1], "killed": "killed by SIGKILL", "retry": "alone"}
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


TRIALS = {f"mirst+dm-fold{fold}-seed0": "mirst+dm" for fold in range(3)}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def show(console):
    """A study of which a worker is killed and a trial diverges."""
    first, second, third = TRIALS

    def epochs(trial, *numbers):
        return [
            Step(trial, Epoch(number=n, loss=0.5, terms={}, eps_share=1.0, clean=0.75, attacked=None, seconds=2.0))
            for n in numbers
        ]

    steps = [
        *epochs(first, 1, 2, 3, 4),
        Step(first, None),
        *epochs(second, 1),
        Step(second, None, killed="killed by SIGKILL", retry="alone, after all others finish"),
        Step(third, None, "training diverged in epoch 1: the loss is nan [0]; lower training.lr"),
        *epochs(second, 2, 3, 4),
        Step(second, None),
    ]
    with StudyDisplay(console) as display:
        display.plan(Plan(TRIALS, 1, 0, 4, 2, None))
        for step in steps:
            display.step(step)
            display.bars.refresh()


def _read(terminal, heard):
    with suppress(OSError):  # at its end
        while part := os.read(terminal, 4096):
            heard += part


@pytest.fixture
def terminal():
    """What a study shows on a real terminal of so many columns."""

    def shown(width):
        ours, theirs = os.openpty()
        with open(theirs, "w", encoding="utf-8") as file:  # noqa: PTH123
            read = threading.Thread(target=_read, args=(ours, heard := bytearray()))  # a terminal holds little
            read.start()
            show(Console(file=file, width=width))
        read.join()
        os.close(ours)
        return heard.decode()

    return shown


def test_bars_on_a_terminal(terminal):
    text = terminal(120)
    assert "\x1b[?25l" in text  # lines are drawn over
    assert re.search(r"all epochs .*12/12 .*left", CONTROL.sub("", text))


@pytest.mark.parametrize("width", [20, 34, 60])
def test_narrow_terminals_keep_one_line_per_bar(width, terminal):
    lines = re.split(r"[\r\n]+", CONTROL.sub("", terminal(width)))
    assert max(len(line) for line in lines) <= width


def test_dumb_terminals_and_pipes_get_whole_plain_lines(terminal, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as build servers do
    stream = io.StringIO()
    show(Console(file=stream, width=40))
    assert "\x1b[?25l" not in stream.getvalue()
    monkeypatch.delenv("FORCE_COLOR")
    show(Console(file=(stream := io.StringIO()), width=40))
    lines = stream.getvalue().strip().splitlines()
    assert lines[0] == "4 trials of 4 epochs, 1 already done; 2 in parallel"
    assert lines[2].endswith("killed by SIGKILL; it is retried alone, after all others finish")
    assert "training diverged in epoch 1: the loss is nan [0]; lower training.lr" in lines[3]
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in terminal(80)


def test_without_colours_where_they_are_not_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    display = StudyDisplay(Console(file=stream, force_terminal=True, width=20))
    with display:
        display.plan(Plan({"ce-fold0-seed0": "ce"}, 0, 0, 2, 1, None))
        display.step(Step("ce-fold0-seed0", None))
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", stream.getvalue())
