import pytest
import torch

from mirst.errors import MirstError
from mirst.evaluation import robustness
from tests.helpers import on_the_fence, small_cnn

EPS = (0.3, 0.6)
"""Wide enough for the first attack to break what it can: the slow ones have little left to do."""


IMAGES = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    return on_the_fence(small_cnn(), IMAGES)


@pytest.fixture(scope="module")
def data(model):
    """Labelled as the model answers."""
    with torch.no_grad():
        return [(part, model(part).argmax(1)) for part in IMAGES.split(8)]


@pytest.fixture(scope="module")
def found(model, data):
    return robustness(model, data, "standard", EPS)


def test_every_eps_is_attacked_beside_the_papers_protocol(found):
    counts = found.rows.groupby(["attack", "eps"]).size().to_dict()
    assert counts == {("none", 0.0): 12, **{(suite, eps): 12 for suite in ("paper", "standard") for eps in EPS}}
    assert set(found.costs["suite"]) == {"paper", "standard"}
    wrong = found.rows[found.rows["label"] != found.rows["prediction"]].groupby("attack").size()
    assert "none" not in wrong
    assert wrong["standard"] == 24 >= wrong["paper"]


def test_the_checks_are_made_at_one_eps(found):
    assert found.checked_eps == 0.6
    assert {check.name for check in found.checks} == {
        "budget", "one-step", "rising eps", "unbounded", "more steps", "gradient-free", "gradients", "repeatable",
        "noise", "finite differences",
    }  # fmt: skip
    (curve,) = (check.figures for check in found.checks if check.name == "rising eps")
    assert curve.endswith("0 at 0, 12 at 0.3, 12 at 0.6")
    assert found.left_out == (
        "APGD on DLR: the loss needs at least three classes; with two classes the margin loss is used.",
    )


def test_checks_can_be_left_out(model, data):
    assert robustness(model, data, "paper", [0.3], check=False).checks == ()


@pytest.mark.parametrize("eps", [(), (0.1, 0.1), (0.0,), (2.0,), (float("nan"),)])
def test_radii_that_make_no_sense_get_a_sentence(model, data, eps):
    with pytest.raises(MirstError, match="give each radius once, above 0 and at most 1"):
        robustness(model, data, "standard", eps)


def test_any_loader_is_taken_also_one_that_can_be_iterated_once(model, data, found):
    once = robustness(model, iter(data), "standard", EPS[:1], check=False)
    assert once.rows.equals(robustness(model, data, "standard", EPS[:1], check=False).rows)
