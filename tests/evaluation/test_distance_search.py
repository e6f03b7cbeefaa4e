import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mirst.errors import MirstError
from mirst.evaluation import LARGEST, curve, distances
from tests.helpers import misclassified, on_the_fence, small_cnn


@pytest.fixture
def linear():
    """Two classes, with images far enough from black and white for the box not to matter."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).double()
    x = 0.4 + 0.2 * torch.rand(12, 1, 8, 8).double()
    with torch.no_grad():
        model[1].bias -= model(x).mean(0)
    return model, x, torch.tensor([0, 1] * 6)


def closed_form(model, x, y, threshold=0.0):
    """|margin| over the L1 norm of its gradient; 0 where misclassified."""
    with torch.no_grad():
        logits = model(x)
        logits[:, 1] -= threshold
        rows = torch.arange(len(y))
        margin = logits[rows, y] - logits[rows, 1 - y]
        slope = (model[1].weight[0] - model[1].weight[1]).abs().sum()
        return (margin / slope).clamp(min=0)


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_on_a_linear_model_the_search_finds_the_true_distance(linear, threshold):
    model, x, y = linear
    found = distances(model, [(x[:8], y[:8]), (x[8:], y[8:])], threshold=threshold).rows
    true = closed_form(model, x, y, threshold).numpy()
    assert (true > 0).sum() >= 3
    assert found["eps"].to_numpy() == pytest.approx(true, rel=0.02)
    assert (found["eps"].to_numpy() >= true - 1e-9).all()
    assert ((found["eps"] == 0) == (found["prediction"] != found["label"])).all()


def test_the_images_are_misclassified_at_their_distance(batch):
    x, y = batch
    model = on_the_fence(small_cnn(), x)
    found = distances(model, [(x, y)])
    broken = torch.tensor(found.rows["eps"].notna().to_numpy())
    assert broken.any()
    assert misclassified(model, found.images, y)[broken].all()
    linf = (found.images - x).abs().flatten(1).amax(1)[broken].numpy()
    assert linf == pytest.approx(found.rows["eps"].dropna().to_numpy())
    assert linf.max() <= LARGEST


def test_an_image_that_nothing_moves_stands(batch):
    x, _ = batch
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    found = distances(model, [(x, torch.tensor([0, 0, 0, 0, 1, 1]))], check=False)
    assert found.rows["eps"].isna().tolist() == [True] * 4 + [False] * 2
    assert found.rows["broken_prediction"].isna().tolist() == [True] * 4 + [False] * 2
    assert torch.equal(found.images, x)


def test_a_second_search_finds_the_same_bit_for_bit(batch):
    x, y = batch
    model = on_the_fence(small_cnn(), x)
    first, second = distances(model, [(x, y)]), distances(model, [(x, y)])
    assert torch.equal(first.images, second.images)
    pd.testing.assert_frame_equal(first.rows, second.rows, check_exact=True)


def test_the_curve_flips_every_image_at_its_eps():
    rows = pd.DataFrame(
        {
            "label": ["a", "b", "b", "a"],
            "prediction": ["a", "b", "b", "b"],
            "eps": [0.01, 0.02, np.nan, 0.0],
            "broken_prediction": ["b", "a", None, "b"],
        }
    )
    found = curve(rows, [0.0, 0.01, 0.02], ("a", "b"), "b")
    assert found["accuracy"].tolist() == [0.75, 0.5, 0.25]
    assert found["sensitivity"].tolist() == [1.0, 1.0, 0.5]
    assert found["specificity"].tolist() == [0.5, 0.0, 0.0]


def test_no_images_get_a_sentence(model):
    with pytest.raises(MirstError, match="no images"):
        distances(model, [])
