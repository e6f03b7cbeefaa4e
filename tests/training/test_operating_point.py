import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mirst.attacks import PGD
from mirst.defenses import CE, RST
from mirst.errors import MirstError
from mirst.thresholds import sensitivity_threshold, specificity_threshold, youden_threshold
from mirst.training import Training, fit
from mirst.training.operating_point import OperatingPoint
from tests.helpers import small_cnn

EPS = 8 / 255
RULES = ["youden", {"sensitivity": 0.8}, {"specificity": 0.9}]


def images(seed):
    """Images that are a little brighter if positive, so that scores of both classes mix."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(40) % 2
    x = torch.rand(40, 1, 16, 16, generator=generator)
    return (x + 0.03 * y[:, None, None, None]).clamp(0, 1), y


def trained(threshold, defense=RST(eps=EPS, steps=2), positive=1):  # noqa: B008 - it is frozen
    model, (x, y) = small_cnn(), images(1)
    data, val = ([images(0)], DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True))
    result = fit(
        model, data, defense, val=val, settings=Training(epochs=3, threshold=threshold), positive=positive, seed=1
    )
    return model.eval(), result, x, y


def log_odds(model, x, positive=1):
    with torch.no_grad():
        logits = model(x)
    return (logits[:, positive] - logits[:, 1 - positive]).numpy()


def by_hand(rule, is_positive, score):
    if rule == "youden":
        return youden_threshold(is_positive, score)
    return (
        sensitivity_threshold(is_positive, score, 0.8)
        if "sensitivity" in rule
        else specificity_threshold(is_positive, score, 0.9)
    )


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_threshold_is_chosen_on_the_clean_validation_images(rule, positive):
    model, result, x, y = trained(rule, positive=positive)
    expected = by_hand(rule, (y == positive).numpy(), log_odds(model, x, positive))
    assert result.threshold == pytest.approx(expected, abs=1e-5)
    assert result.threshold != 0
    assert result.threshold_rule == str(OperatingPoint.of(rule))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_robust_threshold_is_chosen_on_validation_images_that_are_attacked_even_if_misclassified(rule):
    model, result, x, y = trained({"robust": rule})
    moved = PGD(eps=EPS, steps=10, step_size=EPS / 5)(model, x, y)
    clean, attacked = log_odds(model, x), log_odds(model, moved)
    wrong = torch.from_numpy(clean > 0) != (y == 1)
    assert wrong.any()
    assert (torch.from_numpy(attacked < clean) == (y == 1)).all()
    assert result.threshold == pytest.approx(by_hand(rule, (y == 1).numpy(), attacked), abs=1e-4)
    assert result.threshold_rule == f"{{robust: {OperatingPoint.of(rule)}}}"


def test_a_defense_without_eps_has_its_robust_threshold_at_the_eps_of_the_paper():
    model, result, x, y = trained({"robust": "youden"}, CE())
    eps = PGD().eps
    moved = PGD(eps=eps, steps=10, step_size=eps / 5)(model, x, y)
    assert result.threshold == pytest.approx(youden_threshold((y == 1).numpy(), log_odds(model, moved)), abs=1e-4)


def test_the_rule_changes_no_weight():
    states = [trained(rule)[0].state_dict() for rule in ("argmax", {"robust": {"sensitivity": 0.8}})]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert trained("argmax")[1].threshold_rule == "argmax"


def test_a_collapse_is_judged_at_the_threshold_on_clean_images():
    model = small_cnn()
    nn.init.zeros_(model[-1].weight)
    x, y = images(0)
    settings = Training(epochs=1, lr=1e-9, threshold={"robust": {"specificity": 1.0}})
    assert fit(model, [(x, y)], CE(), val=[(x, y)], settings=settings, positive=1).collapsed == 0


@pytest.mark.parametrize("rule", ["argmax", *RULES, *[{"robust": rule} for rule in RULES], {"sensitivity": 1}])
def test_a_rule_is_read_back_from_its_text(rule):
    point = OperatingPoint.of(rule)
    yaml = pytest.importorskip("yaml")
    assert OperatingPoint.of(yaml.safe_load(str(point))) == point
    assert point.robust == (isinstance(rule, dict) and "robust" in rule)
    assert ("attacked" in point.described()) == point.robust


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("Youden", "threshold is Youden; choose argmax, youden, {sensitivity: 0.95}"),
        (0.5, "threshold is 0.5; choose"),
        (None, "threshold is None; choose"),
        (["youden"], "; choose argmax"),
        ({}, "threshold is {}; choose"),
        ({"f1": 0.9}, "; choose argmax"),
        ({"robust": "argmax"}, "; choose argmax"),
        ({"robust": {"robust": "youden"}}, "; choose argmax"),
        ({"robust": "youden", "sensitivity": 0.9}, "; choose argmax"),
        ({"sensitivity": 0.9, "specificity": 0.9}, "; choose argmax"),
        ({"sensitivity": 0}, "threshold has sensitivity 0; it must be a number above 0 and at most 1"),
        ({"sensitivity": 95}, "threshold has sensitivity 95"),
        ({"specificity": "0.9"}, "threshold has specificity 0.9"),
        ({"specificity": math.nan}, "threshold has specificity nan"),
        ({"robust": {"sensitivity": True}}, "threshold has sensitivity True"),
    ],
)
def test_other_rules_get_a_sentence(setting, words):
    with pytest.raises(MirstError) as caught:
        Training(threshold=setting)
    assert words in str(caught.value)


@pytest.mark.parametrize("threshold", [{"sensitivity": 0.9}, {"robust": "youden"}])
def test_a_rule_needs_validation_images_of_two_classes(threshold):
    settings = Training(epochs=1, threshold=threshold)
    with pytest.raises(MirstError, match=r"threshold=\{.*\} need validation images; pass val"):
        fit(small_cnn(), [images(0)], CE(), settings=settings)
    three = [(torch.rand(6, 1, 16, 16), torch.arange(6) % 3)]
    with pytest.raises(MirstError, match=r"threshold=\{.*\} needs two classes, not 3; set it to argmax"):
        fit(small_cnn(classes=3), three, CE(), val=three, settings=settings)
    one = [(torch.rand(6, 1, 16, 16), torch.zeros(6).long())]
    with pytest.raises(MirstError, match=r"threshold=\{.*\} needs validation images of both classes; add some, or set"):
        fit(small_cnn(), [images(0)], CE(), val=one, settings=settings)
