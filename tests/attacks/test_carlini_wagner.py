"""The minimum-norm attack of Carlini and Wagner; test_linear.py compares it with a closed form."""

import pytest
import torch
from torch import Tensor, nn

from mirst.attacks import CarliniWagner
from mirst.errors import MirstError
from tests.helpers import misclassified, on_the_fence, small_cnn, snapshot

QUICK = CarliniWagner(steps=40, learning_rate=0.05)


@pytest.fixture
def model(batch):
    return on_the_fence(small_cnn(), batch[0])


def test_what_it_finds_holds_when_recomputed(model, batch):
    x, y = batch
    before = x.clone()
    wrong = misclassified(model, x, y)
    images, distances = QUICK.minimum(model, x, y)
    assert wrong.any()
    assert not wrong.all()
    assert distances.isfinite().all()
    assert torch.equal(distances == 0, wrong)
    assert torch.equal(images[wrong], x[wrong])
    torch.testing.assert_close(distances, (images - x).abs().amax((1, 2, 3)))
    assert misclassified(model, images, y).all()
    assert images.min() >= 0
    assert images.max() <= 1
    assert not images.requires_grad
    assert torch.equal(x, before)


def test_a_targeted_search_reaches_its_class(batch):
    x, _ = batch
    model = on_the_fence(small_cnn(classes=3), x)
    target = model(x).argmin(1)
    images, distances = CarliniWagner(steps=40, learning_rate=0.05, targeted=True).minimum(model, x, target)
    assert (distances > 0).all()
    assert distances.isfinite().all()
    assert not misclassified(model, images, target).any()


class Constant(nn.Module):
    """Always class 0, whatever the image; the gradient is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]) + 0 * x.flatten(1)[:, :2]


def test_an_image_that_nothing_breaks_stays_and_is_infinitely_far(batch):
    x, _ = batch
    images, distances = CarliniWagner(steps=2).minimum(Constant(), x, torch.tensor([0, 0, 0, 1, 0, 0]))
    assert torch.equal(images, x)
    assert distances.tolist() == [torch.inf, torch.inf, torch.inf, 0, torch.inf, torch.inf]


def test_black_and_white_pixels_can_move():
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mean = x.flatten(1).mean(1)
            return torch.stack([mean, 1 - mean], dim=1)

    x = torch.ones(2, 1, 4, 4) * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    distances = CarliniWagner(steps=300, learning_rate=0.05).minimum(Mean(), x, torch.tensor([1, 0])).distances
    assert (distances >= 0.5 - 1e-6).all()
    assert (distances <= 0.55).all()


def test_runs_repeat_bit_for_bit_in_any_surrounding_mode(model, batch):
    first = QUICK.minimum(model, *batch)
    with torch.inference_mode():
        second = QUICK.minimum(model.train(), *batch)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.distances, second.distances)


def test_the_model_is_left_as_found(batch):
    model = small_cnn().train()
    before = snapshot(model)
    CarliniWagner(steps=1).minimum(model, *batch)
    assert snapshot(model) == before


def test_bad_images_get_a_sentence(model, batch):
    x, y = batch
    with pytest.raises(MirstError, match="must lie in"):
        QUICK.minimum(model, 255 * x, y)


@pytest.mark.parametrize("fields", [{"steps": 0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(MirstError, match=next(iter(fields))):
        CarliniWagner(**fields)
