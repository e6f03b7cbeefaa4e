"""FAB: its projection against linear programming, its search against a slow transcription."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor, nn

from mirst.attacks import FAB
from mirst.attacks.fab import onto_plane
from mirst.errors import MirstError
from mirst.nn import reference_mode
from tests.helpers import misclassified, on_the_fence, seeded, small_cnn

unit = st.integers(0, 8).map(lambda n: n / 8)
weights = st.integers(-8, 8).map(lambda n: n / 4)


def smallest_length(x: np.ndarray, slope: np.ndarray, gap: float) -> float | None:
    """By linear programming: the least `t` with `slope . step = gap`, `|step| <= t`, `x + step` in [0, 1]."""
    n = len(x)
    eye, ones = np.eye(n), np.ones((n, 1))
    answer = linprog(
        np.r_[np.zeros(n), 1.0],
        A_ub=np.block([[eye, -ones], [-eye, -ones]]),
        b_ub=np.zeros(2 * n),
        A_eq=np.r_[slope, 0.0][None],
        b_eq=[gap],
        bounds=[*zip(-x, 1 - x, strict=True), (0, None)],
    )
    return answer.fun if answer.success else None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(unit, weights), min_size=1, max_size=6), st.integers(-16, 16).map(lambda n: n / 4))
def test_the_projection_is_the_shortest_step_onto_the_plane(pixels, gap):
    x, slope = (torch.tensor(column, dtype=torch.float64) for column in zip(*pixels, strict=True))
    step = onto_plane(x.view(1, 1, 1, -1), slope.view(1, 1, 1, -1), torch.tensor([gap], dtype=torch.float64)).flatten()
    assert (x + step).min() >= 0
    assert (x + step).max() <= 1
    expected = smallest_length(x.numpy(), slope.numpy(), gap)
    if expected is None:  # all the room is used
        room = torch.where(slope * gap > 0, 1 - x, -x) * (slope != 0)
        torch.testing.assert_close(step, room)
    else:
        assert step.abs().max().item() == pytest.approx(expected, abs=1e-7)
        assert (slope @ step).item() == pytest.approx(gap, abs=1e-7)


def test_images_are_projected_one_by_one():
    x, slope = torch.rand(2, 5, 3, 4, 4, generator=seeded(), dtype=torch.float64)
    slope, gap = slope - 0.5, torch.tensor([1.0, -1.0, 0.0, 5.0, -5.0], dtype=torch.float64)
    alone = [onto_plane(x[i : i + 1], slope[i : i + 1], gap[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(onto_plane(x, slope, gap), torch.cat(alone))


def slow_projection(x: Tensor, slope: Tensor, level: float) -> Tensor:
    """The step from `x` onto `slope . z = level`, by bisection of the common length."""
    gap = level - (slope * x).sum().item()
    direction = slope.sign() * (1 if gap > 0 else -1)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        step = (x + middle * direction).clamp(0, 1) - x
        low, high = (low, middle) if abs((slope * step).sum().item()) >= abs(gap) else (middle, high)
    return (x + high * direction).clamp(0, 1) - x


def slow_fab(model: nn.Module, x: Tensor, y: int, steps: int) -> Tensor:
    """The nearest point found for one image without a batch axis (Croce and Hein 2020b, Algorithm 1)."""

    def wrong(z: Tensor) -> bool:
        return model(z[None])[0].argmax().item() != y

    def nearest_plane(z: Tensor) -> tuple[Tensor, float]:
        z = z.clone().requires_grad_(True)
        logits = model(z[None])[0]
        planes = []
        for k in range(len(logits)):
            if k != y:
                ahead = logits[k] - logits[y]
                (slope,) = torch.autograd.grad(ahead, z, retain_graph=True)
                level = (slope * z).sum().item() - ahead.item()
                planes.append((abs(ahead.item()) / slope.abs().sum().item(), slope, level))
        return min(planes, key=lambda plane: plane[0])[1:]

    current, nearest, distance = x, x, float("inf")
    for _ in range(steps):
        slope, level = nearest_plane(current)
        d_here, d_clean = slow_projection(current, slope, level), slow_projection(x, slope, level)
        here, clean = d_here.abs().max().item(), d_clean.abs().max().item()
        alpha = min(here / max(here + clean, 1e-12), 0.1)
        current = ((1 - alpha) * (current + 1.05 * d_here) + alpha * (x + 1.05 * d_clean)).clamp(0, 1)
        if wrong(current):
            if (current - x).abs().max().item() < distance:
                nearest, distance = current, (current - x).abs().max().item()
            current = 0.1 * x + 0.9 * current
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if wrong(x + middle * (nearest - x)) else (middle, high)
    return x + high * (nearest - x)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("steps", [1, 4, 15])
def test_the_search_equals_a_slow_transcription(classes, steps, batch):
    x, y = batch[0].double(), batch[1]
    model = on_the_fence(small_cnn(classes=classes).double(), x)
    images, distances = FAB(steps=steps).minimum(model, x, y)
    right = (~misclassified(model, x, y)).nonzero().flatten().tolist()
    assert len(right) >= 2
    for i in right:
        torch.testing.assert_close(images[i], slow_fab(model, x[i], y[i].item(), steps))
        moved = (images[i] - x[i]).abs().max().item()
        assert distances[i].item() == (moved or float("inf"))


def test_misclassified_images_have_distance_0_and_stay(batch):
    x, y = batch
    model = on_the_fence(small_cnn(), x)
    images, distances = FAB(steps=5).minimum(model, x, y)
    wrong = misclassified(model, x, y)
    assert wrong.any()
    assert torch.equal(distances == 0, wrong)
    assert torch.equal(images[wrong], x[wrong])


class Constant(nn.Module):
    """Always class 0, whatever the image; the gradient is 0."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]) + 0 * x.flatten(1)[:, :2]


def test_an_image_that_nothing_breaks_stays_and_is_infinitely_far(batch):
    x, _ = batch
    images, distances = FAB(steps=5, restarts=2).minimum(Constant(), x, torch.zeros(6, dtype=torch.long))
    assert torch.equal(images, x)
    assert distances.isposinf().all()


def test_more_restarts_never_lead_farther(batch):
    x, y = batch
    model = on_the_fence(small_cnn(classes=3, seed=1), x)

    def distances(restarts):
        return FAB(steps=1, restarts=restarts, eps=0.1).minimum(model, x, y, generator=seeded()).distances

    found = [distances(restarts) for restarts in range(1, 9)]
    assert all((more <= fewer).all() for fewer, more in pairwise(found))
    assert (found[-1] < 0.99 * found[0]).any()


def test_steps_below_one_are_refused():
    with pytest.raises(MirstError, match="steps"):
        FAB(steps=0)


def test_slopes_from_the_optimized_copy_find_the_same_boundary():
    """The model itself misclassifies every image that is found, at the distance that the reference mode finds."""
    x = torch.rand(12, 1, 16, 16, generator=seeded())
    model = on_the_fence(small_cnn(), x)
    y = model(x).argmax(1)
    images, distances = FAB(steps=30).minimum(model, x, y)
    with reference_mode():
        _, expected = FAB(steps=30).minimum(model, x, y)
    assert distances.isfinite().all()
    assert misclassified(model, images, y).all()
    torch.testing.assert_close(distances, expected, rtol=0.02, atol=1e-6)
