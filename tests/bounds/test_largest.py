"""The search of the largest certified eps against bisection."""

import math

import pytest
import torch

from mirst.bounds import largest_certified_eps, margin_bounds
from mirst.bounds.largest import largest
from tests.helpers import fused, small_batch, small_cnn, with_boxes, without_dropout

TOLERANCE = 0.05 / 255
STEPS = 2**13


def by_bisection(model, x, y, method):
    """Every image at every step."""
    low, high = torch.zeros(len(x), dtype=torch.float64), torch.ones(len(x), dtype=torch.float64)
    everywhere = margin_bounds(model, x, y, high, method=method) > 0
    for _ in range(math.ceil(math.log2(1 / TOLERANCE))):
        middle = (low + high) / 2
        certified = margin_bounds(model, x, y, middle, method=method) > 0
        low, high = torch.where(certified, middle, low), torch.where(certified, high, middle)
    return torch.where(everywhere, 1.0, low)


@pytest.mark.parametrize("method", ["interval", "crown"])
@pytest.mark.parametrize("make", [lambda: without_dropout(small_cnn()), fused])
def test_it_finds_what_bisection_finds(make, method):
    x, y = small_batch()
    x, y = with_boxes(x, y) if make is fused else (x, y)
    model = make().eval()
    found = largest_certified_eps(model, x, y, method=method, tolerance=TOLERANCE)
    assert torch.equal(found, by_bisection(model, x, y, method))
    assert (found > 0).sum() > 1
    assert (found == 0).any() or make is fused


FALLING = {
    "a line": lambda gap: gap,
    "flat at the crossing": lambda gap: gap**3,
    "a step": lambda gap: torch.where(gap > 0, 1.0, -1.0).double(),
    "a step to minus infinity": lambda gap: torch.where(gap > 0, 1.0, -torch.inf).double(),
    "steep far away": lambda gap: gap.sign() * gap.mul(200).abs().expm1(),
    "saturated": lambda gap: torch.tanh(500 * gap),
}


@pytest.mark.parametrize("name", FALLING)
def test_any_falling_margin_has_its_last_positive_step_in_few_evaluations(name):
    generator = torch.Generator().manual_seed(0)
    crossing = torch.rand(300, generator=generator, dtype=torch.float64) ** 3 * 1.2 - 0.02
    evaluated = 0

    def margins_at(images, eps):
        nonlocal evaluated
        evaluated += len(images)
        return FALLING[name](crossing[images] - eps)

    found = largest(margins_at, torch.zeros(300, dtype=torch.long), STEPS)
    steps = torch.arange(STEPS + 1, dtype=torch.float64) / STEPS
    expected = [max(int((steps < one).sum()) - 1, 0) for one in crossing]
    assert found.tolist() == expected
    assert {0, STEPS} < set(expected)
    assert evaluated < 300 * 30


def test_the_search_begins_at_the_start():
    seen = []

    def margins_at(images, eps):
        seen.append(eps.min().item())
        return 0.5 - eps

    assert largest(margins_at, torch.tensor([STEPS // 4]), STEPS).item() == STEPS // 2 - 1
    assert min(seen) == 0.25
