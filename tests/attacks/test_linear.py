"""A linear model inside the [0, 1] box, where the optimum is known."""

import pytest
import torch
from torch import Tensor, nn

from mirst.attacks import APGD, FAB, PGD, CarliniWagner, Square
from mirst.attacks.carlini_wagner import FLOOR
from tests.helpers import seeded, slow_margin


class Case:
    """32 images, some of them black and white, which a linear model of two classes classifies as `y`."""

    def __init__(self) -> None:
        generator = seeded()
        self.x = torch.rand(32, 1, 8, 8, generator=generator)
        self.x[:4] = self.x[:4].round()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        with torch.no_grad():
            self.model[1].weight.copy_(0.2 * torch.randn(2, 64, generator=generator))
            self.model[1].bias.zero_()
            self.y = self.model(self.x).argmax(1)

    def margin(self, images: Tensor) -> Tensor:
        return slow_margin(self.model(images).detach(), self.y)

    def optimum(self, eps: Tensor) -> Tensor:
        """The point within `eps`, `(N,)`, and the box at which the margin is largest."""
        slope = self.model[1].weight.detach().diff(dim=0).sign().view(1, 1, 8, 8)
        direction = torch.where(self.y.view(-1, 1, 1, 1) == 0, slope, -slope)
        return (self.x + eps.view(-1, 1, 1, 1) * direction).clamp(0, 1)

    def distances(self) -> Tensor:
        """To the boundary, by bisection."""
        low, high = torch.zeros(len(self.x)), torch.ones(len(self.x))
        assert (self.margin(self.optimum(high)) > 0).all()
        for _ in range(40):
            middle = (low + high) / 2
            broken = self.margin(self.optimum(middle)) > 0
            low, high = torch.where(broken, low, middle), torch.where(broken, middle, high)
        return high


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("eps", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("attack", [PGD, APGD, lambda **fields: APGD(loss="margin", **fields)], ids=["pgd", "ce", "m"])
def test_pgd_and_apgd_reach_the_largest_margin(attack, eps, case):
    budget = {"steps": 40} | ({"step_size": eps / 16} if attack is PGD else {})
    attacked = attack(eps=eps, **budget)(case.model, case.x, case.y, generator=seeded())
    clean = case.margin(case.x)
    best = case.margin(case.optimum(torch.full((32,), eps))) - clean
    assert (case.margin(attacked) - clean >= 0.99 * best).all()


@pytest.mark.parametrize("eps", [0.005, 0.02])
def test_square_nearly_reaches_the_largest_margin_where_it_has_to_go_on(eps, case):
    attacked = Square(eps=eps, queries=2000)(case.model, case.x, case.y, generator=seeded())
    clean, reached = case.margin(case.x), case.margin(attacked)
    best = case.margin(case.optimum(torch.full((32,), eps))) - clean
    unbroken = reached <= 0
    assert unbroken.sum() >= 5
    assert (reached - clean >= 0.9 * best)[unbroken].all()


def test_fab_finds_the_nearest_point(case):
    images, distances = FAB(steps=20).minimum(case.model, case.x, case.y)
    assert (distances <= 1.01 * case.distances()).all()
    assert (case.margin(images) > 0).all()


def test_fab_breaks_what_lies_within_eps(case):
    attacked = FAB(eps=0.05, steps=20)(case.model, case.x, case.y)
    optimal = case.distances()
    broken = case.margin(attacked) > 0
    assert broken[optimal < 0.05 / 1.01].all()
    assert not broken[optimal > 0.05].any()
    assert torch.equal(attacked[~broken], case.x[~broken])


def test_carlini_wagner_comes_near_the_nearest_point(case):
    optimal = case.distances()
    few = [0, 1, 5, 6]  # two black and white, two gray
    assert (optimal[few] > FLOOR).all()
    images, distances = CarliniWagner(steps=200, learning_rate=0.02).minimum(case.model, case.x[few], case.y[few])
    assert (distances <= 1.12 * optimal[few]).all()
    assert (distances >= optimal[few] - 1e-6).all()
    assert (slow_margin(case.model(images).detach(), case.y[few]) > 0).all()
