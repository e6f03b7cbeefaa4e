"""Whether the comparison sees a difference, and sees none where there is none."""

import pytest
import torch
from torch import nn

from mirst.nn import MODELS, build_model, reference_mode
from mirst.nn.accelerate.agreement import optimized, packed_if_equal
from mirst.nn.frozen import frozen
from tests.helpers import seeded, small_cnn


def black_corners(n=3, channels=1):
    """As ultrasound has: large areas of one value, in which windows tie."""
    x = torch.rand(n, channels, 48, 48, generator=seeded())
    x[:, :, :20] = 0
    x[:, :, :, 40:] = 1
    return x


@pytest.mark.parametrize("drop_max", [False, True])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_models_of_ours_are_attacked_through_their_copy(name, drop_max, scale):
    torch.manual_seed(0)
    model = build_model(name, 1, 2, drop_max).train()
    for _ in range(3):
        model(torch.rand(8, 1, 48, 48))
    with torch.no_grad():
        model.network.fc.weight.mul_(scale)
        model.network.fc.bias.mul_(scale)
    with frozen(model, training=False):
        assert optimized(model, black_corners()).model is not model


class Off(nn.Module):
    """`body`, but a copy of it differs: by logits, by gradients, or only with gradients off."""

    def __init__(self, kind, size):
        super().__init__()
        self.body, self.kind, self.size, self.copied = small_cnn().eval(), kind, size, False

    def __deepcopy__(self, memo):
        twin = Off(self.kind, self.size)
        twin.copied = True
        return twin

    def forward(self, x):
        logits = self.body(x)
        if not self.copied:
            return logits
        if self.kind == "logits":
            return logits + self.size * torch.tensor([1.0, 0.0])
        if self.kind == "gradients":
            return logits.detach() + (1 + self.size) * (logits - logits.detach())
        if self.kind == "raises":
            raise RuntimeError("not here")
        if self.kind == "not finite":
            return torch.where(x.flatten(1)[:, :1] > 0.5, logits, torch.nan)
        return logits if torch.is_grad_enabled() else logits * (1 + self.size)


@pytest.mark.parametrize("kind", ["logits", "gradients", "gradients off", "raises", "not finite"])
def test_a_copy_that_differs_is_not_used(kind):
    model, x = Off(kind, 0.1).eval(), torch.rand(4, 1, 16, 16, generator=seeded())
    with pytest.warns(UserWarning, match="gives different outputs"), frozen(model, training=False):
        assert optimized(model, x).model is model


@pytest.mark.parametrize("kind", ["logits", "gradients", "gradients off"])
def test_a_difference_of_rounding_is_none(kind):
    model, x = Off(kind, 1e-5).eval(), torch.rand(4, 1, 16, 16, generator=seeded())
    with frozen(model, training=False):
        assert optimized(model, x).model is not model


class Kink(nn.Module):
    """A copy of it has another gradient the first time, as where the input of a ReLU is almost 0."""

    def __init__(self, copied=False):
        super().__init__()
        self.body, self.copied, self.gradients = small_cnn().eval(), copied, 0

    def __deepcopy__(self, memo):
        return Kink(copied=True)

    def forward(self, x):
        logits = self.body(x)
        if not (self.copied and torch.is_grad_enabled()):
            return logits
        self.gradients += 1
        return logits if self.gradients > 1 else logits.detach() + 1.1 * (logits - logits.detach())


def test_a_difference_at_a_single_point_is_none():
    model, x = Kink().eval(), torch.rand(4, 1, 16, 16, generator=seeded())
    with frozen(model, training=False):
        assert optimized(model, x).model.copied


def test_looking_draws_nothing_from_torchs_generator():
    model, x = nn.Sequential(nn.AlphaDropout(0.5), *small_cnn()), torch.rand(4, 1, 16, 16)
    before = torch.get_rng_state()
    with frozen(model, training=None):
        optimized(model, x)
    with packed_if_equal(model, x):
        pass
    with reference_mode(), frozen(model, training=None):
        optimized(model, x)
    assert torch.equal(torch.get_rng_state(), before)


class Swaps(nn.Module):
    """Reads its convolution's weight after changing it behind autograd's back: a packed one is stale."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        self.net[0].weight.data.neg_()
        return self.net(x)


def test_packing_is_compared_too():
    model, x = Swaps().train(), torch.rand(4, 1, 16, 16)
    with pytest.warns(UserWarning, match="gives different outputs"), packed_if_equal(model, x):
        assert "forward" not in vars(model.net[0])
    model = small_cnn().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with packed_if_equal(model, x):
        assert "forward" in vars(model[0])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
