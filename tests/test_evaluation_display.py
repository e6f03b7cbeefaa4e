import io
import os
import re
import threading
from contextlib import suppress

import pytest
from rich.console import Console

from mirst import evaluation_display
from mirst.attacks import FGSM, PGD
from mirst.evaluation import Progress, evaluate
from mirst.evaluation.worst_case import worst_case
from mirst.evaluation_display import EvaluationDisplay
from tests.helpers import small_cnn


@pytest.fixture
def loaded(batch):
    x, y = batch
    return [(x[:4], y[:4]), (x[4:], y[4:])]


def test_evaluate_tells_of_every_attack_and_batch(loaded):
    told = []
    evaluate(small_cnn().eval(), loaded, {"pgd": PGD(steps=1)}, on_progress=told.append)
    eps = PGD().eps
    steps = [("none", 0.0, 0), ("none", 0.0, 4), ("pgd", eps, 0), ("pgd", eps, 4)]
    later = [("none", 0.0, 4), ("none", 0.0, 6), ("pgd", eps, 4), ("pgd", eps, 6)]
    assert told == [Progress(*step) for step in steps + later]


def test_worst_case_tells_how_many_images_still_stand(loaded):
    told = []
    stages = {"all": {"fgsm": FGSM(eps=0.5), "pgd": PGD(eps=0.5, steps=3)}}
    _, costs = worst_case(small_cnn().eval(), loaded, stages, on_progress=told.append)
    assert len(costs) == 2
    for cost in costs.to_dict("records"):
        own = [one for one in told if one.what == cost["attack"]]
        assert {one.images for one in own} == {cost["images"]}
        assert own[0].done == 0
        assert own[-1].done == cost["images"]


def show(console):
    with EvaluationDisplay(console) as display:
        for trial in ("", "ce-fold0-seed0"):
            display.progress(trial, Progress("apgd-ce", 5 / 255, 0, 131))
            display.progress(trial, Progress("apgd-ce", 5 / 255, 64, 131))
            display.bars.refresh()
            display.progress(trial, Progress("apgd-ce", 5 / 255, 131, 131))
            display.progress(trial, Progress("speckle, severity 3", 0.0, 0, 131))
            display.bars.refresh()
        display.end("ce-fold0-seed0")
        assert list(display.tasks) == [("", "speckle, severity 3")]


def test_bars_on_a_terminal_name_attack_and_images_left():
    ours, theirs = os.openpty()
    heard = bytearray()

    def read():
        with suppress(OSError):  # at its end
            while part := os.read(ours, 4096):
                heard.extend(part)

    with open(theirs, "w", encoding="utf-8") as file:  # noqa: PTH123
        thread = threading.Thread(target=read)
        thread.start()
        show(Console(file=file, width=120))
    thread.join()
    os.close(ours)
    text = heard.decode()
    assert "\x1b[?25l" in text
    assert re.search(r"apgd-ce, eps 5/255 .*64/131.*67 images left", text)
    assert re.search(r"ce-fold0-seed0: speckle, severity 3 .*131 images left", text)


@pytest.mark.parametrize(("every", "lines"), [(1000.0, 1), (-1.0, 7)])
def test_plain_lines_elsewhere_are_sparse(every, lines, monkeypatch):
    monkeypatch.setattr(evaluation_display, "PLAIN_EVERY", every)
    stream = io.StringIO()
    show(Console(file=stream, width=40))
    told = stream.getvalue().splitlines()
    assert len(told) == lines
    assert told[-1] == "ce-fold0-seed0: done"
    assert ("apgd-ce, eps 5/255, 67 images left" in told) == (lines == 7)
    assert "\x1b" not in stream.getvalue()
