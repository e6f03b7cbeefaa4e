"""Attacks through stand-ins, and on the mean of several draws, beside closed forms on linear models."""

import pytest
import torch
from torch import nn

from mirst.attacks import APGD, PGD, Expectation, StandIn
from mirst.attacks.stand_in import MeanOfDraws
from mirst.errors import MirstError
from tests.helpers import seeded, snapshot

EPS = 8 / 255
X = torch.linspace(0.2, 0.8, 16).view(1, 1, 4, 4).repeat(3, 1, 1, 1)
Y = torch.tensor([1, 1, 0])
WEIGHT = torch.randn(16, generator=seeded())
ATTACK = PGD(eps=EPS, step_size=EPS / 8, steps=12)


class Rounding(nn.Module):
    def forward(self, x):
        return torch.round(255 * x) / 255


class Thermometer(nn.Module):
    def forward(self, x):
        return (x > torch.arange(0, 256).view(-1, 1, 1) / 256).to(x.dtype).mean(1, keepdim=True)


class Jpeg(nn.Module):
    """Blocks of 4 x 4, their cosine coefficients rounded."""

    def forward(self, x):
        k = torch.arange(4.0)
        basis = torch.cos(torch.pi * (2 * k[None] + 1) * k[:, None] / 8) / 2**0.5
        basis[0] /= 2**0.5
        return basis.T @ (torch.round(64 * basis @ x @ basis.T) / 64) @ basis


class Detached(nn.Module):
    def forward(self, x):
        return x.detach().clone()


class Purifier(nn.Module):
    def forward(self, x):
        with torch.no_grad():
            return x.clamp(0.01, 0.99)


def linear():
    layer = nn.Linear(16, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-WEIGHT, WEIGHT]))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer).eval()


class UnderNoGrad(nn.Module):
    """Calls its first layer without gradients."""

    def __init__(self):
        super().__init__()
        self.front, self.net = nn.Identity(), linear()

    def forward(self, x):
        with torch.no_grad():
            x = self.front(x)
        return self.net(x)


def optimum(y):
    """On a linear model the worst point of the ball is known."""
    direction = WEIGHT.sign().view(1, 1, 4, 4) * torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    return X + EPS * direction


LAYERS = [Rounding(), Thermometer(), Jpeg(), Detached(), Purifier()]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_the_identity_as_a_stand_in_finds_the_optimum_that_the_true_gradient_misses(layer):
    model = nn.Sequential(layer, linear()).eval()
    before = snapshot(model)
    assert torch.equal(ATTACK(model, X, Y), X)
    moved = StandIn(attack=ATTACK, stand_ins={type(layer): nn.Identity()})(model, X, Y)
    torch.testing.assert_close(moved, optimum(Y), rtol=0, atol=1e-6)
    assert snapshot(model) == before


def test_a_layer_that_is_called_without_gradients_has_a_stand_in_too():
    moved = StandIn(attack=ATTACK, stand_ins={"front": nn.Identity()})(UnderNoGrad(), X, Y)
    torch.testing.assert_close(moved, optimum(Y), rtol=0, atol=1e-6)


@pytest.mark.parametrize("key", ["0", "Rounding", Rounding, "1.0"])
def test_layers_are_named_by_place_or_class(key):
    model = (
        nn.Sequential(Rounding(), linear())
        if key != "1.0"
        else nn.Sequential(nn.Identity(), nn.Sequential(Rounding(), linear()))
    )
    moved = StandIn(attack=ATTACK, stand_ins={key: lambda x: 2 * x})(model.eval(), X, Y)
    torch.testing.assert_close(moved, optimum(Y), rtol=0, atol=1e-6)


def test_the_answers_are_those_of_the_layer_itself():
    model, seen = nn.Sequential(Rounding(), linear()).eval(), []

    class Look:
        eps = EPS

        def __call__(self, model, x, y, *, generator=None):
            seen.append(model(x))
            return x

    StandIn(attack=Look(), stand_ins={"0": lambda x: 0 * x})(model, X, Y)
    assert torch.equal(seen[0], model(X))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.idle, self.net = Rounding(), linear()

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize(
    ("model", "stand_ins", "words"),
    [
        (nn.Sequential(Rounding(), linear()), {"rounding": nn.Identity()}, "has no layer rounding to put a stand-in"),
        (nn.Sequential(Rounding(), linear()), {Jpeg: nn.Identity()}, "has no layer Jpeg"),
        (nn.Sequential(Rounding(), linear()), {"0": lambda x: x[:, :, :2]}, "1, 2, 4) where the layer"),
        (Unused(), {"idle": nn.Identity()}, "the stand-in for idle was never used"),
    ],
)  # fmt: skip
def test_a_stand_in_that_does_not_fit_gets_a_sentence_and_leaves_no_hook(model, stand_ins, words):
    model.eval()
    before = snapshot(model)
    with pytest.raises(MirstError) as caught:
        StandIn(attack=APGD(eps=EPS, steps=2), stand_ins=stand_ins)(model, X[:3], Y[:3])
    assert words in str(caught.value)
    assert snapshot(model) == before


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.3 * torch.randn_like(x)


class Bent(nn.Module):
    """A sum of kinks, so that the gradient depends on the draw."""

    def __init__(self):
        super().__init__()
        self.front = nn.Linear(16, 64)
        with torch.no_grad():
            self.front.weight.copy_(torch.randn(64, 16, generator=seeded(1)))
            self.front.bias.copy_(-self.front(X.flatten(1))[0])

    def forward(self, x):
        z = self.front(x.flatten(1)).sin().mean(1)
        return torch.stack([-z, z], 1)


def test_the_mean_over_draws_beats_a_single_draw():
    model = nn.Sequential(Noise(), Bent()).eval()
    x, y = X[:1].repeat(40, 1, 1, 1), torch.ones(40, dtype=torch.long)

    def left(attack):
        """The mean logit of the true class after the attack, over many draws."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            moved = attack(model, x, y)
            with torch.no_grad():
                return MeanOfDraws(model, 400)(moved)[:, 1].mean()

    single = PGD(eps=EPS, step_size=EPS, steps=1)
    assert left(Expectation(attack=single, draws=50)) < left(single) < left(lambda model, x, y: x)


def test_the_mean_of_draws_is_the_mean_and_needs_one():
    model = nn.Sequential(Noise(), linear()).eval()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        mean = MeanOfDraws(model, 3)(X)
        torch.manual_seed(3)
        torch.testing.assert_close(mean, torch.stack([model(X) for _ in range(3)]).mean(0))
    with pytest.raises(MirstError, match="draws is 0"):
        Expectation(attack=ATTACK, draws=0)
