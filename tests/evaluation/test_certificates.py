"""Certificates against a linear model, whose worst case is known, and against attacks."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mirst.attacks import APGD, FGSM
from mirst.bounds.certify import EXCESS
from mirst.errors import MirstError
from mirst.evaluation import (
    certified_rows,
    certify,
    classification_metrics,
    evaluate,
    named_certificates,
    require_certificates_hold,
    two_sided,
    with_attacks,
)
from mirst.evaluation.certificates import COLUMNS, require_bounds
from mirst.metrics import ANY_WRONG, METRICS
from tests.helpers import ensemble, fused, on_the_fence, small_batch, small_cnn, with_boxes, without_dropout

EPS = [1 / 255, 4 / 255]


def linear(weight, bias=0.0, classes=2):
    """Class 1 from `weight . x + bias > 0` on; further classes never win."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(weight), classes))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.fill_(-50.0)
        model[1].bias[0] = 0.0
        model[1].weight[1], model[1].bias[1] = torch.tensor(weight), bias
    return model.eval()


def named(rows, classes=("benign", "malignant")):
    """As `named_certificates`, every image a group of its own."""
    names = np.array(classes)
    columns = {name: names[rows[name]] for name in ("label", "prediction", "attacked_prediction")}
    return rows.assign(source="s", group=rows["image"].astype(str), **columns)


@pytest.fixture
def undecided():
    """A network whose predictions small steps change."""
    x, _ = small_batch()
    return on_the_fence(without_dropout(small_cnn()), x)


def test_a_linear_model_has_its_exact_margin_and_radius():
    weight, x = [1.0, -2.0, 0.5, 0.0], torch.tensor([[0.6, 0.2, 0.5, 0.5], [0.5, 0.4, 0.5, 0.5]])
    score = torch.tensor([0.6 - 0.4 + 0.25, 0.5 - 0.8 + 0.25])
    rows = certify(linear(weight), [(x.view(2, 1, 2, 2), torch.tensor([1, 0]))], EPS)
    for eps in EPS:
        own = rows[rows["eps"] == eps]
        expected = score.abs().numpy() - 3.5 * (eps + EXCESS)  # 3.5 is the sum of the absolute weights
        assert own["margin"].to_numpy() == pytest.approx(expected, abs=1e-5)
        assert (own["certified"] == (own["margin"] > 0)).all()
        assert own["score"].to_numpy() == pytest.approx([expected[0], -expected[1]], abs=1e-5)
    assert rows["largest_eps"].to_numpy() == pytest.approx(np.tile(score.abs() / 3.5, 2), abs=0.06 / 255)


def test_the_threshold_moves_the_certificates_as_it_moves_the_decision():
    x, y = torch.full((1, 1, 1, 1), 0.5), torch.tensor([1])
    for threshold in (-0.2, 0.0, 0.3, 0.6):
        row = certify(linear([1.0]), [(x, y)], [0.1], threshold=threshold).iloc[0]
        assert row["margin"] == pytest.approx(0.5 - 0.1 - threshold, abs=1e-5)
        assert row["certified"] == (threshold < 0.4)
        assert row["prediction"] == int(threshold < 0.5)
        assert row["score"] == pytest.approx(0.4, abs=1e-5)  # scores are not moved


@pytest.mark.parametrize("make", [lambda: without_dropout(small_cnn()), fused, ensemble])
def test_no_attack_goes_below_the_bounds(make):
    x, y = small_batch()
    model = make().eval()
    if make is fused:
        x, y = with_boxes(x, y)
    rows = certify(model, [(x, y)], EPS)
    assert list(rows) == COLUMNS
    assert len(rows) == 2 * len(x)
    for eps in EPS:
        own = rows[rows["eps"] == eps].reset_index()
        attacks = {"fgsm": FGSM(eps=eps), "apgd": APGD(eps=eps, steps=20)}
        found = evaluate(model, [(x, y)], attacks, check=False, auc=True)
        for _, attacked in found.groupby("attack"):
            right = (attacked["prediction"] == attacked["label"]).to_numpy()
            assert right[own["certified"].to_numpy()].all()
            side = np.where(own["label"] == 1, 1, -1)
            assert (side * attacked["score"].to_numpy() >= side * own["score"].to_numpy()).all()
            assert (side * attacked["worst_score"].to_numpy() >= side * own["score"].to_numpy()).all()
    one, four = (rows[rows["eps"] == eps].reset_index() for eps in EPS)
    assert (four["margin"] < one["margin"]).all()
    assert (one["largest_eps"] == four["largest_eps"]).all()
    assert (one["largest_eps"] >= 1 / 255)[one["certified"]].all()


def test_both_sides_enclose_every_attack(undecided):
    x, y = small_batch()
    rows = named(certify(undecided, [(x, y)], EPS))
    outcomes = evaluate(undecided, [(x, y)], {"fgsm": FGSM(eps=1 / 255)}, check=False)
    names = np.array(["benign", "malignant"])
    outcomes = outcomes.assign(source="s", label=names[outcomes["label"]], prediction=names[outcomes["prediction"]])
    table = two_sided(with_attacks(rows, outcomes, "malignant"), ("benign", "malignant"), "malignant")
    assert table["metric"].tolist() == list(METRICS) * 2
    assert (table["certified"] <= table["attacked"]).all()
    for side in ("certified", "attacked"):
        assert (table[f"{side}_low"] <= table[side]).all()
        assert (table[side] <= table[f"{side}_high"]).all()
    under = outcomes[outcomes["attack"] == "fgsm"]
    reached = classification_metrics(
        under["label"], under["prediction"], under["score"], ("benign", "malignant"), "malignant"
    )
    assert all(table.set_index(["eps", "metric"]).loc[(1 / 255, name), "attacked"] <= reached[name] for name in METRICS)


def test_an_attack_within_a_smaller_eps_counts_at_every_larger_one():
    row = {"source": "s", "group": "g", "label": "b", "prediction": "b", "score": -9.0, "certified": False}
    row |= {"attacked_prediction": "b", "attacked_score": 1.0, "method": "interval"}
    rows = pd.DataFrame([row | {"image": image, "eps": eps} for eps in (0.01, 0.02, 0.03) for image in "xy"])
    attack = {"source": "s", "image": "x", "label": "b", "prediction": "a", "score": -0.5, "eps": 0.02}
    found = with_attacks(rows, pd.DataFrame([attack]), "b")
    assert found["attacked_prediction"].tolist() == ["b", "b", "a", "b", "a", "b"]
    assert found["attacked_score"].tolist() == [1.0, 1.0, -0.5, 1.0, -0.5, 1.0]
    worse = with_attacks(rows, pd.DataFrame([attack | {"worst_score": -2.0}]), "b")
    assert worse["attacked_score"].tolist() == [1.0, 1.0, -2.0, 1.0, -2.0, 1.0]


def test_with_several_classes_what_is_not_certified_counts_against_every_class():
    rows = pd.DataFrame({"label": ["a", "b", "c"], "certified": [True, True, False], "method": "interval"})
    worst = certified_rows(rows, ("a", "b", "c"), "c")
    assert worst["prediction"].tolist() == ["a", "b", ANY_WRONG]
    lowest = classification_metrics(worst["label"], worst["prediction"], [0, 0, 0], ("a", "b", "c"), "c")
    possible = [
        classification_metrics(rows["label"], ["a", "b", third], [0, 0, 0], ("a", "b", "c"), "c") for third in "abc"
    ]
    assert lowest["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    for name in ("f1", "sensitivity", "specificity", "accuracy"):
        assert lowest[name] <= min(one[name] for one in possible)


def test_three_classes_are_certified():
    x = torch.full((2, 1, 1, 1), 0.5)
    rows = certify(linear([1.0], classes=3), [(x, torch.tensor([1, 2]))], [0.1])
    assert rows["certified"].tolist() == [True, False]
    assert rows["margin"].tolist() == pytest.approx([0.4, -50.6], abs=1e-4)


def test_a_certified_image_that_an_attack_flips_is_an_error_that_names_it():
    row = {"image": "a.png", "eps": 5 / 255, "certified": True, "label": "b", "prediction": "b"}
    require_certificates_hold(pd.DataFrame([row | {"attacked_prediction": "b"}]))
    for found in ({"attacked_prediction": "a"}, {"attacked_prediction": "b", "prediction": "a"}):
        with pytest.raises(RuntimeError, match=r"1 certificates are wrong: image a\.png is certified at eps 5/255"):
            require_certificates_hold(pd.DataFrame([row | found]))


def test_a_model_that_draws_at_random_is_refused():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear([1.0, 1.0, 1.0, 1.0])

        def forward(self, x):
            return self.net(x + 0.1 * torch.rand_like(x))

    batch = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    with pytest.raises(MirstError, match="random draws"):
        certify(Noisy(), [batch], EPS)
    with pytest.raises(MirstError, match="random draws"):
        require_bounds(Noisy(), batch[0])


def test_a_layer_without_bounds_is_refused():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    model = nn.Sequential(nn.Flatten(), Odd(), nn.Linear(4, 2)).eval()
    with pytest.raises(MirstError, match=r"Odd|fft"):
        certify(model, [(torch.rand(2, 1, 2, 2), torch.tensor([0, 1]))], EPS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": [0.0]}, "eps is 0"),
        ({"eps": []}, "eps is none"),
        ({"eps": [0.1, 0.1]}, "each radius once"),
        ({"eps": [0.1], "method": "exact"}, "there is no method exact"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(MirstError, match=message):
        certify(linear([1.0]), [(torch.rand(2, 1, 1, 1), torch.tensor([0, 1]))], **settings)


def test_no_images_and_unknown_labels_are_refused():
    with pytest.raises(MirstError, match="no images to certify"):
        certify(linear([1.0]), [], EPS)
    with pytest.raises(MirstError, match="label"):
        certify(linear([1.0]), [(torch.rand(1, 1, 1, 1), torch.tensor([5]))], EPS)


def test_names_replace_numbers(phantoms):
    from mirst.data import read_dataset

    records = read_dataset(phantoms)[:2]
    x = torch.full((2, 1, 1, 1), 0.5)
    rows = named_certificates(
        certify(linear([1.0]), [(x, torch.tensor([0, 1]))], EPS), records, ("benign", "malignant")
    )
    assert rows["image"].tolist() == [record.name for record in records] * 2
    assert rows["label"].tolist() == ["benign", "malignant"] * 2
    assert rows["prediction"].tolist() == ["malignant"] * 4
    assert rows["group"].tolist() == [record.group for record in records] * 2


def test_progress_ends_at_the_number_of_images():
    seen = []
    x, y = torch.rand(3, 1, 1, 1), torch.tensor([0, 1, 1])
    certify(linear([1.0]), [(x[:2], y[:2]), (x[2:], y[2:])], [0.1], on_progress=seen.append)
    bounds = [step for step in seen if step.what == "bounds by interval"]
    assert [(step.done, step.images) for step in bounds] == [(0, 3), (2, 3), (3, 3)]
