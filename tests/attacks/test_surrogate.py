"""Drop-max under another layer's backward pass: the same answers, other gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mirst.attacks import PGD, SurrogateBackward
from mirst.attacks.surrogate import differentiated_as
from mirst.errors import MirstError
from mirst.nn import DropMax2d, replace_first_max_pool
from tests.helpers import small_cnn, snapshot

GEOMETRY = (3, 2, 1)
STEPS = PGD(eps=0.1, step_size=0.01, steps=5)


def gradient(pool, x, upstream):
    x = x.clone().requires_grad_(True)
    pool(x).backward(upstream)
    return x.grad


@pytest.fixture
def pooled():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 9, 9, generator=generator)
    return x, torch.randn(2, 3, 5, 5, generator=generator)


@pytest.mark.parametrize("backward", ["max", "average", "exact"])
def test_answers_stay_and_gradients_are_the_surrogates(backward, pooled):
    x, upstream = pooled
    layer = DropMax2d(*GEOMETRY)
    answer, own = layer(x), gradient(layer, x, upstream)
    twins = gradient(nn.MaxPool2d(*GEOMETRY), x, upstream)
    expected = {"max": twins, "average": (own + twins) / 2, "exact": own}[backward]
    with differentiated_as(layer, backward):
        assert torch.equal(layer(x), answer)
        torch.testing.assert_close(gradient(layer, x, upstream), expected)
    torch.testing.assert_close(gradient(layer, x, upstream), own)
    assert not torch.equal(own, twins)


def test_every_drop_max_layer_is_swapped(pooled):
    x, _ = pooled
    two = nn.Sequential(DropMax2d(*GEOMETRY), nn.Sequential(DropMax2d(2)))
    with differentiated_as(two, "max"):
        found = gradient(two, x, torch.ones(2, 3, 2, 2))
    middle = DropMax2d(*GEOMETRY)(x)
    upstream = gradient(nn.MaxPool2d(2), middle, torch.ones(2, 3, 2, 2))
    torch.testing.assert_close(found, gradient(nn.MaxPool2d(*GEOMETRY), x, upstream))


def test_the_attack_follows_the_surrogates_gradient(batch):
    """One signed step from `x`, along the gradient computed by hand through the network's parts."""
    x, y = batch
    model = replace_first_max_pool(small_cnn()).eval()
    before, after = model[:3], model[4:]
    hidden = x.clone().requires_grad_(True)
    features = before(hidden)
    dropped = model[3](features).detach().requires_grad_(True)
    F.cross_entropy(after(dropped), y).backward()
    F.max_pool2d(features, *GEOMETRY).backward(dropped.grad)
    expected = (x + 0.01 * hidden.grad.sign()).clamp(0, 1)
    one_step = PGD(eps=0.1, step_size=0.01, steps=1)
    torch.testing.assert_close(SurrogateBackward(attack=one_step)(model, x, y), expected)
    assert not torch.equal(one_step(model, x, y), expected)


def test_exact_is_the_attack_itself(batch):
    model = replace_first_max_pool(small_cnn())
    assert torch.equal(SurrogateBackward(attack=STEPS, backward="exact")(model, *batch), STEPS(model, *batch))


@pytest.mark.parametrize("backward", ["max", "average"])
def test_a_model_without_drop_max_is_attacked_as_it_is(backward, model, batch):
    assert torch.equal(SurrogateBackward(attack=STEPS, backward=backward)(model, *batch), STEPS(model, *batch))


def test_no_hook_outlives_a_failure(batch):
    model = replace_first_max_pool(small_cnn())
    before = snapshot(model)
    during = {}

    def fail(*_, **__):
        during.update(snapshot(model))
        raise RuntimeError("as planned")

    with pytest.raises(RuntimeError, match="as planned"):
        SurrogateBackward(attack=fail)(model, *batch)
    assert during != before
    assert snapshot(model) == before


def test_hooks_of_others_stay(batch):
    model = replace_first_max_pool(small_cnn())
    calls = []
    model[3].register_forward_hook(lambda *_: calls.append(1))
    SurrogateBackward(attack=STEPS)(model, *batch)
    calls.clear()
    model(batch[0])
    assert calls == [1]


def test_its_radius_is_the_attacks():
    assert SurrogateBackward(attack=STEPS).eps == 0.1


def test_an_unknown_backward_is_refused():
    with pytest.raises(MirstError, match="backward is min"):
        SurrogateBackward(attack=STEPS, backward="min")
