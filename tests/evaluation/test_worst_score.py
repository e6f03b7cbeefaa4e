"""AUC under attack, against closed forms, counts of pairs and single attacks."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirst.attacks import APGD, FAB, FGSM, PGD, MultiTargeted, Square, StandIn, Transfer
from mirst.evaluation import evaluate, robustness
from mirst.evaluation.suites import adaptive, paper, standard
from mirst.evaluation.worst_case import worst_case
from mirst.evaluation.worst_score import PositiveAgainstRest, pushes_score
from mirst.metrics import classification_metrics
from tests.helpers import on_the_fence, small_cnn, without_dropout

EPS = 8 / 255
IMAGES = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(24) % 2


def pairs_ranked(label, score):
    """AUC pair by pair, ties count half."""
    positive = [s for s, y in zip(score, label, strict=True) if y == 1]
    negative = [s for s, y in zip(score, label, strict=True) if y != 1]
    assert positive
    assert negative
    won = sum((p > n) + (p == n) / 2 for p in positive for n in negative)
    return won / (len(positive) * len(negative))


def attacked_auc(rows):
    classes = (0, 1) if rows["label"].max() < 2 else (0, 1, 2)
    columns = (rows[name] for name in ("label", "prediction", "score"))
    return classification_metrics(*columns, classes, 1, rows["worst_score"])["auc_attacked"]


def linear(weight, bias=0.0):
    """Two logits whose difference is `weight . x + bias`."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2))
    with torch.no_grad():
        model[1].weight[0], model[1].weight[1] = -weight.flatten() / 2, weight.flatten() / 2
        model[1].bias[0], model[1].bias[1] = 0.0, bias
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return without_dropout(on_the_fence(small_cnn(), IMAGES)).eval()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), eps=st.sampled_from([1 / 255, 5 / 255, 0.1, 0.5]), threshold=st.sampled_from([0, 2]))
def test_a_linear_model_has_the_scores_of_the_closed_form(seed, eps, threshold):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(12, 1, 3, 3, generator=generator).round(decimals=1)  # some pixels at the edges of the box
    y = torch.arange(12) % 2
    weight = torch.randn(9, generator=generator)
    net = linear(weight)
    attacks = {"apgd": APGD(eps=eps, steps=10), "margin": APGD(eps=eps, loss="margin", random_start=False, steps=10)}
    rows, _ = worst_case(net, [(x, y)], {"linear": attacks}, threshold=threshold, auc=True)
    down = (y == 1).float().mul(-2).add(1)[:, None] * weight.sign()
    corner = (x.flatten(1) + eps * down).clamp(0, 1)
    assert rows["worst_score"].to_numpy() == pytest.approx((corner @ weight).numpy(), abs=1e-4)
    assert attacked_auc(rows) == pytest.approx(pairs_ranked(y, (corner @ weight).numpy().round(4)), abs=0.03)


def test_without_the_box_a_linear_score_moves_by_eps_times_the_l1_norm():
    weight, x = torch.linspace(-1, 1, 9), 0.3 + 0.4 * torch.rand(10, 1, 3, 3)
    rows, _ = worst_case(
        linear(weight), [(x, torch.arange(10) % 2)], {"all": {"apgd": APGD(eps=0.1, steps=5)}}, auc=True
    )
    moved = (rows["worst_score"] - torch.matmul(x.flatten(1), weight).numpy()).to_numpy()
    assert moved == pytest.approx(np.where(rows["label"] == 1, -1, 1) * 0.1 * float(weight.abs().sum()), abs=1e-4)


@pytest.mark.parametrize("suite", ["paper", "standard"])
def test_predictions_costs_and_scores_are_those_without_the_option(suite):
    """Also of a model that draws at random: the added passes take no draw away."""
    model = on_the_fence(small_cnn(), IMAGES)
    model[8] = Noise()
    data = [(IMAGES[:16], LABELS[:16]), (IMAGES[16:], LABELS[16:])]
    stages = (paper(EPS) if suite == "paper" else quick(standard(EPS, 2))).stages
    plain, costs = worst_case(model, data, stages)
    rows, more = worst_case(model, data, stages, auc=True)
    pd.testing.assert_frame_equal(rows.drop(columns="worst_score"), plain, check_exact=True)
    kept = [name for name in costs if name != "seconds"]
    pd.testing.assert_frame_equal(more[kept], costs[kept])
    assert list(more.columns.difference(costs.columns)) == ["score_images", "score_seconds"]
    alone, scored = (evaluate(model, data, {"pgd": PGD(eps=EPS)}, check=False, auc=auc) for auc in (False, True))
    pd.testing.assert_frame_equal(scored.drop(columns="worst_score"), alone, check_exact=True)


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.01 * torch.randn_like(x)


def quick(suite):
    """The suite with few queries of Square."""
    stages = {
        stage: {name: Square(eps=EPS, queries=20) if name == "square" else attack for name, attack in attacks.items()}
        for stage, attacks in suite.stages.items()
    }
    return type(suite)(suite.name, stages)


def test_the_worst_score_is_that_of_the_worst_single_attack(model):
    attacks = {"fgsm": FGSM(eps=EPS), "pgd": PGD(eps=EPS, steps=5, step_size=0.01)}
    single = evaluate(model, [(IMAGES, LABELS)], attacks)
    rows, costs = worst_case(model, [(IMAGES, LABELS)], {"all": attacks}, auc=True)
    assert (rows["broken_by"] == "none").sum() == costs["score_images"].iloc[0] > 0
    assert (costs["images"] + costs["score_images"] == len(IMAGES)).all()
    for row in rows.to_dict("records"):
        scores = single.loc[single["image"] == row["image"], "score"]
        assert len(scores) == 3
        assert row["worst_score"] == pytest.approx(scores.min() if row["label"] == 1 else scores.max(), abs=1e-5)
    per_attack = evaluate(model, [(IMAGES, LABELS)], attacks, auc=True)
    for attack in ("none", *attacks):
        own, clean = (per_attack[per_attack["attack"] == name] for name in (attack, "none"))
        both = np.stack([own["score"], clean["score"]])
        assert own["worst_score"].tolist() == np.where(own["label"] == 1, both.min(0), both.max(0)).tolist()


def test_misclassified_images_are_pushed_to_the_limit(model):
    wrong = 1 - evaluate(model, [(IMAGES, LABELS)], {})["prediction"].to_numpy()
    rows, _ = worst_case(
        model, [(IMAGES, torch.from_numpy(wrong))], {"all": {"apgd": APGD(eps=EPS, steps=10)}}, auc=True
    )
    assert (rows["broken_by"] == "none").all()
    assert (rows["linf"] == 0).all()
    gain = np.where(wrong == 1, -1, 1) * (rows["worst_score"] - rows["score"])
    assert (gain > 0).all()


def test_auc_under_attack_is_at_most_clean_auc_and_falls_with_eps(model):
    rows = robustness(model, [(IMAGES, LABELS)], "paper", (1 / 255, 4 / 255, 12 / 255), check=False, auc=True).rows
    clean = rows[rows["attack"] == "none"]
    values = [attacked_auc(own) for _, own in rows.groupby("eps", sort=True)]
    assert len(values) == 4
    assert values[0] == pytest.approx(pairs_ranked(clean["label"], clean["score"]))
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    for _, own in rows.groupby("eps"):
        worst, before = own["worst_score"].to_numpy(), clean["score"].to_numpy()
        assert np.where(clean["label"] == 1, worst <= before, worst >= before).all()
        assert attacked_auc(own) == pytest.approx(pairs_ranked(own["label"], worst))


def test_a_constant_model_has_one_half():
    constant = linear(torch.zeros(9), bias=3.0)
    x = torch.rand(6, 1, 3, 3)
    rows, _ = worst_case(constant, [(x, torch.arange(6) % 2)], paper(EPS).stages, auc=True)
    assert attacked_auc(rows) == 0.5
    assert (rows["worst_score"] == 3.0).all()


class Overflowing(nn.Module):
    """Not finite on images brighter than 0.5."""

    def forward(self, x):
        bright = x.flatten(1).mean(1)
        return torch.stack([-bright, bright], 1).masked_fill(bright[:, None] > 0.5, torch.nan)


def test_a_score_that_is_not_finite_has_the_worst_rank():
    x = torch.tensor([0.1, 0.49, 0.48, 0.2]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()
    y = torch.tensor([1, 0, 0, 1])

    @dataclass(frozen=True)
    class Brighten:
        eps: float = 0.05

        def __call__(self, model, x, y, *, generator=None):
            return (x + self.eps).clamp(max=1)

    rows, _ = worst_case(Overflowing(), [(x, y)], {"all": {"brighten": Brighten()}}, auc=True)
    assert rows["worst_score"].abs().gt(1e38).tolist() == [False, True, True, False]
    assert attacked_auc(rows) == 0.0


def test_with_three_classes_the_positive_one_is_pushed_against_the_rest():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).eval()
    x, y, eps = 0.3 + 0.4 * torch.rand(12, 1, 3, 3), torch.arange(12) % 3, 0.1
    rows, costs = worst_case(
        net, [(x, y)], {"all": {"apgd": APGD(eps=eps), "dlr": APGD(eps=eps, loss="dlr")}}, auc=True
    )
    assert costs["score_images"].tolist() == [12, 0]
    pgd = x.double().clone()
    sign = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    slow = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).double()
    slow.load_state_dict({key: value.double() for key, value in net.state_dict().items()})
    for _ in range(200):
        pgd.requires_grad_(True)
        (gradient,) = torch.autograd.grad(log_odds(slow(pgd)).sum(), pgd)
        pgd = (pgd.detach() + 0.005 * sign * gradient.sign()).clamp(x.double() - eps, x.double() + eps)
    expected = log_odds(slow(pgd)).detach().numpy()
    assert rows["worst_score"].to_numpy() == pytest.approx(expected, abs=2e-3)
    one = evaluate(net, [(x, y)], {"apgd": APGD(eps=eps)}, auc=True)
    assert one.loc[one["attack"] == "apgd", "worst_score"].to_numpy() == pytest.approx(expected, abs=2e-3)


def log_odds(logits):
    probability = logits.softmax(1)[:, 1]
    return probability.log() - (1 - probability).log()


def test_which_attacks_go_on_after_a_misclassification():
    pushing = {name for name, attack in standard(EPS, 2).attacks.items() if pushes_score(attack)}
    assert pushing == {"apgd-ce", "apgd-margin"}
    assert {name for name, attack in standard(EPS, 3).attacks.items() if pushes_score(attack)} == pushing
    assert {name for name, attack in standard(EPS, 4).attacks.items() if pushes_score(attack)} == pushing
    assert all(pushes_score(attack) for attack in paper(EPS).attacks.values())
    more = adaptive(EPS, 2, small_cnn(), source=small_cnn(), draws=2).attacks
    assert {"apgd-restarts", "adapted-margin", "adapted-ce", "transfer"} <= {
        k for k, v in more.items() if pushes_score(v)
    }
    assert not pushes_score(StandIn(attack=FAB(), stand_ins={}))
    assert not pushes_score(MultiTargeted(attack=FAB(targeted=True)))


@pytest.mark.parametrize("positive", [0, 1, 2])
def test_a_transferred_attack_sees_the_source_as_positive_against_the_rest(positive):
    source, target = (without_dropout(small_cnn(classes=3, seed=seed)).eval() for seed in (1, 2))
    attack = PGD(eps=EPS, steps=3, step_size=0.01)
    y = torch.arange(24) % 3
    rows = evaluate(
        target, [(IMAGES, y)], {"t": Transfer(source_model=source, attack=attack)}, positive=positive, auc=True
    )
    view = PositiveAgainstRest(source, positive).eval()
    attacked = attack(view, IMAGES, (y == positive).long())
    with torch.no_grad():
        probability = target(attacked).double().softmax(1)[:, positive]
    after = (probability / (1 - probability)).log().numpy()
    on = rows[rows["attack"] == "t"]
    worst = np.where(y == positive, np.minimum(on["score"], after), np.maximum(on["score"], after))
    clean = rows.loc[rows["attack"] == "none", "score"]
    worst = np.where(y == positive, np.minimum(worst, clean), np.maximum(worst, clean))
    assert on["worst_score"].to_numpy() == pytest.approx(worst, abs=1e-4)
