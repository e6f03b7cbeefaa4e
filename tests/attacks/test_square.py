"""Square: its schedule, its squares, and how sparing it is."""

import math

import pytest
import torch
from torch import Tensor, nn

from mirst.attacks import Square
from mirst.errors import MirstError
from tests.helpers import asked, misclassified, on_the_fence, seeded, slow_margin, small_cnn


class Indifferent(nn.Module):
    """Always class 0: no square is better than another, so each is tried on the same stripes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0]).expand(len(x), 2)


def paper_side(query: int, queries: int, size: int) -> int:
    """The published schedule: from 0.8 of the area, halved at fixed queries out of 10,000."""
    at, p = query / queries * 10_000, 0.8
    for after in (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000):
        if at > after:
            p = p / 2
    return max(1, round(math.sqrt(p) * size))


def test_each_query_recolours_one_square_whose_side_follows_the_schedule():
    x = torch.full((1, 3, 24, 24), 0.5)
    model = Indifferent()
    with asked(model) as queries:
        Square(eps=0.1, queries=1000)(model, x, torch.tensor([0]), generator=seeded())
    assert len(queries) == 1 + 1000
    stripes = queries[1]
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    sides, colours = set(), set()
    for query, images in enumerate(queries[2:], 1):
        assert torch.allclose((images - x).abs(), torch.tensor(0.1))
        changed = (images != stripes).any(1).squeeze(0)
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        if len(rows):  # a square may happen to have the stripes' colour
            side = paper_side(query, 1000, 24)
            assert rows[-1] - rows[0] + 1 == len(rows) == side
            assert columns[-1] - columns[0] + 1 <= side
            inside = images[0, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].flatten(1)
            assert (inside == inside[:, :1]).all()
            sides.add(side)
            colours.add(tuple((inside[:, 0] > 0.5).tolist()))
    assert len(colours) == 2**3  # each channel has its own sign
    assert sides == {paper_side(query, 1000, 24) for query in range(1, 1000)}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (4, 32)])
@pytest.mark.parametrize("patch", [0.001, 1.0])
def test_squares_fit_into_any_image(shape, patch):
    x = torch.rand(2, 1, *shape, generator=seeded())
    attacked = Square(eps=0.1, queries=50, patch=patch)(Indifferent(), x, torch.tensor([0, 0]), generator=seeded())
    assert (attacked - x).abs().max() <= 0.1 + 1e-7
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_a_broken_image_is_left_alone():
    x = torch.rand(32, 1, 16, 16, generator=seeded())
    model = on_the_fence(small_cnn(), x)
    y = model(x).argmax(1)
    y[:5] = 1 - y[:5]
    wrong = misclassified(model, x, y)
    with asked(model) as queries:
        attacked = Square(eps=0.01, queries=200, restarts=2)(model, x, y, generator=seeded())
    counts = [len(images) for images in queries]
    assert counts[:2] == [32, 27]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 5
    assert counts[-1] == int((~misclassified(model, attacked, y)).sum())
    assert torch.equal(attacked[wrong], x[wrong])


def test_it_stops_when_all_are_broken(batch):
    x, y = batch
    model = on_the_fence(small_cnn(), x)
    with asked(model) as queries:
        attacked = Square(eps=0.3, queries=200, restarts=2)(model, x, y, generator=seeded())
    assert misclassified(model, attacked, y).all()
    assert len(queries) < 100
    with asked(model) as queries:
        assert torch.equal(Square(restarts=2)(model, attacked, y), attacked)
    assert len(queries) == 1


def test_no_query_is_worse_than_the_one_before(batch):
    x, y = batch
    model = on_the_fence(small_cnn(), x)

    def losses(queries):
        attacked = Square(eps=0.001, queries=queries)(model, x, y, generator=seeded())
        return nn.functional.cross_entropy(model(attacked), y, reduction="none").detach()

    assert (losses(1) >= nn.functional.cross_entropy(model(x), y, reduction="none") - 1e-6).all()
    assert (losses(100) > losses(1)).any()


@pytest.mark.parametrize("fields", [{"queries": 0}, {"patch": 0.0}, {"patch": 1.1}, {"patch": float("nan")}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(MirstError, match=next(iter(fields))):
        Square(**fields)


@torch.no_grad()
def slow_square(model, x, y, eps, queries):
    """The algorithm image by image, with whole images and no memory of squares. The draws are those of a batch."""
    draw = seeded()
    signs = torch.rand(len(x), x.shape[1], 1, x.shape[3], generator=draw, dtype=x.dtype).round() * 2 - 1
    best, margins = x.clone(), slow_margin(model(x), y)
    active = [i for i in range(len(x)) if margins[i] <= 0]
    run = {i: (x[i] + eps * signs[i]).clamp(0, 1) for i in active}
    ahead, reached = dict(run), dict.fromkeys(active, -math.inf)
    for query in range(1, queries + 1):
        found = slow_margin(model(torch.stack([ahead[i] for i in active])), y[active])
        for i, gain in zip(active, found, strict=True):
            if gain > reached[i]:
                run[i], reached[i] = ahead[i], float(gain)
        side = paper_side(query, queries, x.shape[2])
        corners = [
            (torch.rand(len(active), 1, generator=draw, dtype=x.dtype) * (n - side + 1)).floor().int()
            for n in x.shape[2:]
        ]
        signs = torch.rand(len(active), x.shape[1], 1, 1, generator=draw, dtype=x.dtype).round() * 2 - 1
        for number, i in enumerate(active):
            ahead[i] = run[i].clone()
            top, left = (int(corner[number]) for corner in corners)
            place = (slice(None), slice(top, top + side), slice(left, left + side))
            ahead[i][place] = (x[i] + eps * signs[number]).clamp(0, 1)[place]
        active = [i for i in active if reached[i] <= 0]
        if not active:
            break
    for i, image in run.items():
        if reached[i] > margins[i]:
            best[i] = image
    return best


@pytest.mark.parametrize("channels", [1, 3])
def test_it_equals_a_slow_transcription(channels):
    x = torch.rand(12, channels, 16, 16, generator=seeded(), dtype=torch.float64)
    model = on_the_fence(small_cnn(channels).double().eval(), x)
    y = model(x).argmax(1)
    y[:2] = 1 - y[:2]
    attacked = Square(eps=0.01, queries=60)(model, x, y, generator=seeded())
    expected = slow_square(model, x, y, 0.01, 60)
    assert 0 < int(misclassified(model, attacked, y).sum()) < 12
    assert torch.equal(attacked, expected)
