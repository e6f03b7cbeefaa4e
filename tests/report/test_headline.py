"""The verdict by rule, for every kind of outcome."""

import pandas as pd
import pytest

from mirst.evaluation import Interval
from mirst.report.exports import Table
from mirst.report.external import Validation
from mirst.report.headline import Evidence, elsewhere_sentence, headline, leading

HIGH, MIDDLE, LOW = Interval(0.8, 0.7, 0.9), Interval(0.7, 0.6, 0.8), Interval(0.2, 0.1, 0.3)
CONSTANT = 0.5
WITHIN = Interval(0.55, 0.45, 0.65)
"""Above the fixed answer, but not its interval."""


def evidence(under, better=(), *, clean=HIGH, doubtful=(), failed=(), plain="ce"):
    """Models by F1 under attack; `better` are the pairs (better, worse) that differ significantly."""
    f1 = pd.DataFrame({name: [clean, one] for name, one in under.items()}, index=["none", "standard"], dtype=object)
    names = list(under)
    pairs = [(one, other) for number, one in enumerate(names) for other in names[number + 1 :]]
    readings = [next((f"{a} is better" for a, b in better if {a, b} == set(pair)), "not significant") for pair in pairs]
    judged = pd.DataFrame(
        [("standard", *pair, reading) for pair, reading in zip(pairs, readings, strict=True)],
        columns=["attack", "first", "second", "reading"],
    )
    return Evidence(f1, judged, CONSTANT, plain if plain in under else None, doubtful, failed)


ONLY = "Only {} shown to do better under attack than one fixed answer for every image; do not rely on {}."
ALL = "All {} models are shown to do better under attack than one fixed answer for every image."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(
            evidence({"ce": LOW, "rst": WITHIN}, [("rst", "ce")]),
            [
                "No model here keeps its answers under attack; do not rely on any of them.",
                "Under attack, none is shown to do better than one fixed answer for every image.",
                "The model rst loses less than plain training (ce).",
            ],
            id="none is above the fixed answer, though one beats plain training",
        ),
        pytest.param(
            evidence({"ce": LOW, "rst": LOW}, clean=WITHIN),
            [
                "No model here is shown to do better than one fixed answer for every image, even without an attack; "
                "do not rely on any of them."
            ],
            id="none is above the fixed answer without an attack either",
        ),
        pytest.param(
            evidence({"ce": LOW, "rst": HIGH, "mirst": MIDDLE}, [("rst", "ce"), ("mirst", "ce")]),
            [
                "The models rst and mirst withstand attacks better than plain training (ce); the study cannot tell "
                "which of them is best.",
                ONLY.format("the models rst and mirst are", "the model ce"),
            ],
            id="two that cannot be told apart",
        ),
        pytest.param(
            evidence({"ce": LOW, "rst": HIGH, "at": MIDDLE}, [("rst", "ce"), ("rst", "at"), ("at", "ce")]),
            [
                "The models rst and at withstand attacks better than plain training (ce).",
                "The model rst has a higher F1 under attack than every other model here.",
                ONLY.format("the models rst and at are", "the model ce"),
            ],
            id="one above all others",
        ),
        pytest.param(
            evidence({"ce": MIDDLE, "rst": HIGH}),
            [
                "No model here is shown to withstand attacks better than plain training (ce).",
                "The models ce and rst have the highest F1 under attack; the study cannot tell which of them is best.",
                ALL.format(2),
            ],
            id="plain training is inside the noise",
        ),
        pytest.param(
            evidence({"ce": LOW, "rst": HIGH, "at": WITHIN}, [("rst", "ce")]),
            [
                "The model rst withstands attacks better than plain training (ce).",
                "The models rst and at have the highest F1 under attack; the study cannot tell which of them is best.",
                ONLY.format("the model rst is", "any other model here"),
            ],
            id="one in the group is not shown to beat plain training",
        ),
        pytest.param(
            evidence({"rst": HIGH, "at": MIDDLE}),
            [
                "The models rst and at have the highest F1 under attack; the study cannot tell which of them is best.",
                ALL.format(2),
            ],
            id="no plain training",
        ),
        pytest.param(
            evidence({"rst": HIGH}),
            ["The model rst does better under attack than one fixed answer for every image."],
            id="one model",
        ),
        pytest.param(
            evidence({"ce": LOW}),
            [
                "The model ce does not keep its answers under attack; do not rely on it.",
                "Under attack, it is not shown to do better than one fixed answer for every image.",
            ],
            id="one model that fails",
        ),
        pytest.param(
            evidence({"rst": HIGH}, doubtful=None),
            [
                "The model rst does better under attack than one fixed answer for every image.",
                "Only weak attacks were run, so stronger attacks may still change this.",
            ],
            id="weak attacks alone",
        ),
        pytest.param(
            evidence({"ce": LOW}, doubtful=None),
            [
                "The model ce does not keep its answers under attack; do not rely on it.",
                "Under attack, it is not shown to do better than one fixed answer for every image.",
            ],
            id="weak attacks that are strong enough",
        ),
        pytest.param(
            evidence({"ce": LOW, "rst": HIGH}, [("rst", "ce")], doubtful=("rst",)),
            [
                "The model rst withstands attacks better than plain training (ce).",
                ONLY.format("the model rst is", "the model ce"),
                "Do not rely on this for rst: checks of the attacks did not pass, so its numbers may be too high.",
            ],
            id="checks that did not pass",
        ),
        pytest.param(
            evidence({"rst": HIGH}, failed=("gr", "at")),
            [
                "The model rst does better under attack than one fixed answer for every image.",
                "gr and at have no result: a training diverged or was stopped.",
            ],
            id="trials without a result",
        ),
        pytest.param(
            evidence({}, failed=("gr",)),
            [
                "No model here can be judged: no defense has all of its trainings.",
                "gr has no result: a training diverged or was stopped.",
            ],
            id="no trials with a result",
        ),
    ],
)
def test_the_verdict_follows_from_intervals_and_significant_differences(given, said):
    assert headline(given) == said


def test_many_models_are_counted():
    names = [f"d{number}" for number in range(9)]
    found = headline(evidence({"ce": LOW} | dict.fromkeys(names, HIGH), [(name, "ce") for name in names]))
    assert found[0].startswith("9 of the 10 models withstand attacks better than plain training (ce);")
    assert found[1] == ONLY.format("9 of the 10 models are", "the model ce")


def test_the_leaders_are_those_not_significantly_below_the_highest():
    given = evidence({"ce": MIDDLE, "at": LOW, "rst": HIGH}, [("rst", "at"), ("ce", "at")])
    assert leading(given.f1, given.judged) == ["ce", "rst"]
    undefined = evidence({"ce": Interval(float("nan"), float("nan"), float("nan")), "rst": HIGH}, [("rst", "ce")])
    assert leading(undefined.f1, undefined.judged) == ["rst"]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([(-0.3, -0.1), (-0.3, -0.1)], "lower for 2 of 2 models."),
        (
            [(-0.3, -0.1), (-0.1, 0.1), (0.1, 0.3)],
            "lower for 1, higher for 1 and not shown to differ for 1 of 3 models.",
        ),
    ],
)
def test_a_validation_elsewhere_is_read_from_its_intervals(ends, said):
    rows = [("f1", "change", "no attack", low, high) for low, high in ends]
    rows += [("f1", "change", "standard (eps 5/255)", -0.9, -0.8), ("auc", "change", "no attack", -0.9, -0.8)]
    numbers = pd.DataFrame(rows, columns=["metric", "figure", "attack", "low", "high"])
    empty = Table(pd.DataFrame(), pd.DataFrame())
    one = Validation("clinic", {}, "", Table(pd.DataFrame(), numbers), empty, "")
    start = "On the data set clinic, which no model was trained on, F1 without an attack is "
    assert elsewhere_sentence(one) == [start + said]
