"""Auto-PGD against a slow transcription of Algorithm 1, image by image."""

import math
from itertools import takewhile

import pytest
import torch
from torch import Tensor, nn

from mirst.attacks import APGD
from mirst.attacks.apgd import periods
from mirst.attacks.losses import dlr
from mirst.errors import MirstError
from tests.helpers import asked, on_the_fence, seeded, slow_margin, small_cnn


def checkpoints(steps: int) -> set[int]:
    """`w_j = ceil(p_j * steps)` in whole hundredths: p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)."""
    p = [0, 22]
    while p[-1] < 100:
        p.append(p[-1] + max(p[-1] - p[-2] - 3, 6))
    return {math.ceil(p_j * steps / 100) for p_j in p[1:]}


def test_the_schedule_of_the_paper():
    assert list(takewhile(lambda end: end < 100, periods(100))) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [1, 3, 5, 8, 10, 20, 50, 250, 1000])
def test_the_schedule_follows_the_formula(steps):
    assert list(takewhile(lambda end: end <= steps, periods(steps))) == sorted(
        w for w in checkpoints(steps) if w <= steps
    )


def slow_ce(logits: Tensor, y: int) -> Tensor:
    return -(logits[y].exp() / logits.exp().sum()).log()


def slow_cw(logits: Tensor, y: int) -> Tensor:
    return max(z for k, z in enumerate(logits) if k != y) - logits[y]


def slow_dlr(logits: Tensor, y: int) -> Tensor:
    ordered = sorted(logits, reverse=True)
    return slow_cw(logits, y) / (ordered[0] - ordered[2])


def slow_dlr_towards(logits: Tensor, target: int) -> Tensor:
    """The negative of the targeted ratio, with the first logit in the place of the true class's."""
    ordered = sorted(logits, reverse=True)
    return -(ordered[0] - logits[target]) / (ordered[0] - (ordered[2] + ordered[3]) / 2)


def slow_apgd(model: nn.Module, x: Tensor, y: int, objective, eps: float, steps: int, sign: int = 1) -> list[Tensor]:
    """All points that Algorithm 1 visits from `x`, one image without a batch axis; rho = alpha = 0.75."""

    def project(z: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(z, x - eps), x + eps).clamp(0, 1)

    def look(z: Tensor) -> tuple[float, Tensor]:
        z = z.clone().requires_grad_(True)
        value = sign * objective(model(z[None])[0], y)
        (gradient,) = torch.autograd.grad(value, z)
        return value.item(), gradient.sign()

    eta, points, values = 2 * eps, [x], []
    value, direction = look(x)
    values.append(value)
    f_max, x_max, direction_max = value, x, direction
    f_max_before, eta_before, last, ups = f_max, None, 0, 0
    old, current = x, x
    for k in range(1, steps + 1):
        z = project(current + eta * direction)
        new = z if k == 1 else project(current + 0.75 * (z - current) + 0.25 * (current - old))
        new_value, direction = look(new)
        points.append(new)
        ups += new_value > value
        old, current, value = current, new, new_value
        if value > f_max:
            f_max, x_max, direction_max = value, current, direction
        if k in checkpoints(steps):
            stuck = eta_before == eta and f_max == f_max_before
            eta_before = eta
            if ups < 0.75 * (k - last) or stuck:
                eta, current, value, direction = eta / 2, x_max, f_max, direction_max
            f_max_before, last, ups = f_max, k, 0
    return points


SLOW = {"ce": slow_ce, "margin": slow_cw, "dlr": slow_dlr}


def model_for(loss: str, x: Tensor, y: Tensor) -> tuple[nn.Module, Tensor]:
    """For the DLR, labels that stay off the third place: there it is constant, and its gradient rounding noise."""
    model = small_cnn(classes=5).double().eval()
    return (model, model(x).argmax(1)) if loss == "dlr" else (on_the_fence(model, x), y)


@pytest.mark.parametrize("loss", SLOW)
@pytest.mark.parametrize(("eps", "steps"), [(0.02, 1), (0.02, 8), (0.1, 25), (0.02, 60)])
def test_every_iterate_equals_a_slow_transcription(loss, eps, steps, batch):
    x = batch[0].double()
    model, y = model_for(loss, x, batch[1])
    with asked(model) as visited:
        attacked = APGD(eps=eps, steps=steps, loss=loss, random_start=False)(model, x, y)
    for i in range(len(x)):
        points = torch.stack(slow_apgd(model, x[i], y[i].item(), SLOW[loss], eps, steps))
        torch.testing.assert_close(torch.stack([images[i] for images in visited]), points)
        margins = slow_margin(model(points).detach(), y[i].expand(len(points)))
        torch.testing.assert_close(attacked[i], points[int(margins.argmax())])


class Ripples(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (100 * x).sin()


def test_a_period_that_rises_without_a_new_best_halves_the_step(batch):
    """Which takes a rough landscape: there the second condition alone halves, for one image at the third checkpoint."""
    x, y = batch[0].double(), batch[1]
    model = nn.Sequential(Ripples(), *small_cnn().double()).eval()
    with asked(model) as visited:
        APGD(eps=0.1, steps=20, random_start=False)(model, x, y)
    for i in range(len(x)):
        points = slow_apgd(model, x[i], y[i].item(), slow_ce, 0.1, 20)
        torch.testing.assert_close(torch.stack([images[i] for images in visited]), torch.stack(points))


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_the_targeted_iterates_too(loss, batch):
    x, y = batch[0].double(), batch[1]
    model = on_the_fence(small_cnn(classes=4).double(), x)
    slow, sign = (slow_dlr_towards, 1) if loss == "dlr" else (SLOW[loss], -1)
    with asked(model) as visited:
        APGD(eps=0.02, steps=20, loss=loss, targeted=True, random_start=False)(model, x, y)
    for i in range(len(x)):
        points = slow_apgd(model, x[i], y[i].item(), slow, 0.02, 20, sign)
        torch.testing.assert_close(torch.stack([images[i] for images in visited]), torch.stack(points))


@pytest.mark.parametrize("classes", [3, 4, 7])
def test_dlr_equals_explicit_loops(classes):
    logits = torch.randn(20, classes, generator=seeded(), dtype=torch.float64)
    y = torch.arange(20) % classes
    expected = torch.stack([slow_dlr(z, label) for z, label in zip(logits, y.tolist(), strict=True)])
    torch.testing.assert_close(dlr(logits, y), expected)
    torch.testing.assert_close(dlr(3 * logits + 5, y), expected)
    assert torch.equal(dlr(logits, y) > 0, logits.argmax(1) != y)
    if classes > 3:
        towards = torch.stack([-slow_dlr_towards(z, label) for z, label in zip(logits, y.tolist(), strict=True)])
        torch.testing.assert_close(dlr(logits, y, targeted=True), towards)


@pytest.mark.parametrize(("classes", "targeted"), [(2, False), (2, True), (3, True)])
def test_dlr_is_refused_where_it_is_not_defined(classes, targeted, batch):
    with pytest.raises(MirstError, match=f"at least {3 + targeted} classes, not {classes}"):
        APGD(loss="dlr", targeted=targeted)(small_cnn(classes=classes), *batch)


def test_an_unknown_loss_is_refused():
    with pytest.raises(MirstError, match="loss is kl"):
        APGD(loss="kl")


def test_steps_below_one_are_refused():
    with pytest.raises(MirstError, match="steps"):
        APGD(steps=0)
