"""Linear bounds of operations that are not linear, over the box of their inputs.

An elementwise increasing function f on [l, u] whose derivative rises and then falls, or does one of the two, has there
its least derivative s at one of the ends. So `f(l) + s (x - l) <= f(x) <= f(u) - s (u - x)`. If its derivative only
rises, it is convex: the chord lies above it, and the tangent in the middle of [l, u] below it. For a ReLU this is the
adaptive rule of CROWN: slope 1 if u > -l, else 0.

The m-th largest value of a window, where `l_(1) >= l_(2) >= ...` are the sorted lower bounds of its pixels and
`u_(1) >= u_(2) >= ...` the sorted upper bounds (m is 1 for max-pool and 2 for drop-max):

- Below: it is at least the least of any m pixels. Take those with the m largest lower bounds, and let k be the m-th of
  them. The others are at least `c = l_(m-1)`, so it is at least `min(c, x_k)`. This is concave in x_k, so its chord on
  `[l_k, u_k]` lies below it; the chord is x_k itself if `c >= u_k`, as for m = 1, where c is infinite.
- Above: it is at most the largest of the pixels that are left without any m - 1 of them. Leave out those with the
  m - 1 largest upper bounds, and let k be the pixel with the m-th. The others are at most `d = u_(m+1)`, so it is at
  most `max(x_k, d)`. This is convex in x_k, so its chord lies above it; the chord is x_k itself if `d <= l_k`.

At the ends of the box of x_k the two chords take the values `l_(m)` and `u_(m)`, the exact interval of the operation.
"""

import torch
from torch import Tensor

from mirst.bounds.boxes import Box
from mirst.bounds.operations import Elementwise, OrderStatistic
from mirst.bounds.rounding import DOUBLE, Rounding, gamma

Lines = tuple[Tensor, Tensor]
"""Slope and intercept of a line for each value."""
STEP = 16 * DOUBLE
"""Error of the few operations that a line is made of, as a share of the values that enter."""


def relaxed(
    operation: Elementwise | OrderStatistic, rows: Tensor, box: Box, rounding: Rounding | None
) -> tuple[list[Tensor], Tensor]:
    """Rows `(S, N, ...)` in front of an operation, and the constant `(S, N)`, such that their sum is a lower bound.

    Args:
        rows: coefficients of the operation's value.
        box: of its input.
    """
    if isinstance(operation, OrderStatistic):
        return _through_order(operation, rows, box, rounding)
    low, high = box.parts()[-2:]
    below, above = lines(operation, low, high)
    if rounding is not None:
        values = torch.maximum(operation.at(low).abs(), operation.at(high).abs())
        slack = rounding.of_function(operation.ulps) * (1 + values) + STEP * (1 + values)
        slack = slack + STEP * 2 * (1 + below[0].abs() + above[0].abs()) * box.size
        below, above = (below[0], below[1] - slack), (above[0], above[1] + slack)
    up, down = rows.clamp(min=0), rows.clamp(max=0)
    return [up * below[0] + down * above[0]], _constant(up, down, below[1], above[1], rounding)


def lines(operation: Elementwise, low: Tensor, high: Tensor) -> tuple[Lines, Lines]:
    """A line below the function on `[low, high]`, and one above it."""
    at_low, at_high = operation.at(low), operation.at(high)
    if not operation.convex:
        slope = torch.minimum(derivative(operation, low), derivative(operation, high))
        return (slope, at_low - slope * low), (slope, at_high - slope * high)
    middle = (low + high) / 2
    slope = derivative(operation, middle)
    below = slope, operation.at(middle) - slope * middle
    return below, chord(low, high, at_low, at_high, derivative(operation, high))


def chord(low: Tensor, high: Tensor, at_low: Tensor, at_high: Tensor, otherwise: Tensor) -> Lines:
    """The line through two points; through the first with slope `otherwise` where they coincide."""
    width = high - low
    flat = width <= 0
    slope = torch.where(flat, otherwise, (at_high - at_low) / torch.where(flat, 1.0, width))
    return slope, at_low - slope * low


def derivative(operation: Elementwise, x: Tensor) -> Tensor:
    """Of the function at `x`; at a kink the slope of one of its sides."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(operation.at(x).sum(), x)
    return slope


def order_lines(operation: OrderStatistic, low: Tensor, high: Tensor) -> tuple[Lines, Tensor, Lines, Tensor]:
    """The line below each window's value and the pixel that it is a line of, and those above.

    Args:
        low, high: `(N, C, H, W)`, bounds of the pixels.

    Returns:
        Slopes, intercepts and flat pixels, `(N, C, windows)` each.
    """
    rank, places = operation.rank, operation.windows(*low.shape[-2:]).to(low.device)
    places = torch.cat([places, places.new_full((len(places), 1), low[0, 0].numel())], 1)  # one more of padding
    low, high = (torch.cat([end.flatten(2), end.new_full((*end.shape[:2], 1), -torch.inf)], 2) for end in (low, high))
    places = places.expand(*low.shape[:2], -1, -1)

    lowest = low[:, :, places[0, 0]].topk(rank)
    pixel_below = places.gather(3, lowest.indices[..., -1:])[..., 0]
    below_low, below_high = lowest.values[..., -1], high.gather(2, pixel_below)
    cap = lowest.values[..., -2] if rank > 1 else torch.full_like(below_low, torch.inf)
    ones = torch.ones_like(below_low)
    below = chord(below_low, below_high, below_low, torch.minimum(cap, below_high), ones)

    highest = high[:, :, places[0, 0]].topk(rank + 1)
    pixel_above = places.gather(3, highest.indices[..., rank - 1 : rank])[..., 0]
    above_low, above_high = low.gather(2, pixel_above), highest.values[..., rank - 1]
    floor = highest.values[..., rank]
    above = chord(above_low, above_high, torch.maximum(above_low, floor), above_high, ones)
    return below, pixel_below, above, pixel_above


def _through_order(
    operation: OrderStatistic, rows: Tensor, box: Box, rounding: Rounding | None
) -> tuple[list[Tensor], Tensor]:
    low, high = box.parts()[-2:]
    below, pixel_below, above, pixel_above = order_lines(operation, low, high)
    if rounding is not None:
        size, share = box.size.flatten(2), STEP * operation.windows(*low.shape[-2:]).numel() / pixel_below.shape[2]
        below = below[0], below[1] - share * (1 + below[0].abs()) * 2 * size.gather(2, pixel_below)
        above = above[0], above[1] + share * (1 + above[0].abs()) * 2 * size.gather(2, pixel_above)
    rows = rows.flatten(3)
    up, down = rows.clamp(min=0), rows.clamp(max=0)
    pulled = rows.new_zeros(*rows.shape[:3], low[0, 0].numel())
    pulled = pulled.scatter_add(3, pixel_below.expand_as(rows), up * below[0])
    pulled = pulled.scatter_add(3, pixel_above.expand_as(rows), down * above[0])
    return [pulled.view(*rows.shape[:3], *low.shape[-2:])], _constant(up, down, below[1], above[1], rounding)


def _constant(up: Tensor, down: Tensor, below: Tensor, above: Tensor, rounding: Rounding | None) -> Tensor:
    """The intercepts, `(N, ...)`, times the positive and negative coefficients, `(S, N, ...)`."""
    total = product(up, below) + product(down, above)
    if rounding is None:
        return total
    return total - gamma(2 * (up[0, 0].numel() + 4), DOUBLE) * (product(up, below.abs()) - product(down, above.abs()))


def product(rows: Tensor, values: Tensor) -> Tensor:
    """`(S, N)` products of `(S, N, ...)` rows with `(N, ...)` values."""
    return torch.einsum("snk,nk->sn", rows.flatten(2), values.flatten(1))
