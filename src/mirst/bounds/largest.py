"""The largest eps at which each image is certified, found with few evaluations of the bounds."""

from collections.abc import Callable

import torch
from torch import Tensor

MarginsAt = Callable[[Tensor, Tensor], Tensor]
"""Margins `(M,)` of the images with these indices, `(M,)`, at an eps for each of them, `(M,)`."""
FIRST = 1 / 256
"""How far above the start the first eps lies that is tried."""
GROWTH = 3
"""While no eps is known at which an image is not certified, the distance from the start grows by at least 1 + this."""
PART = 1 / 8
"""A guess that cuts off less than this part of the bracket is a poor one."""


def largest(margins_at: MarginsAt, start: Tensor, steps: int) -> Tensor:
    """The largest multiple of `1 / steps` in [0, 1] with a margin above 0, as numbers of steps; `start` if none is.

    If margins fall with eps, these are the numbers that bisection finds. Each image has a bracket: it is certified at
    its lower end, and not at its upper end. The next eps that is tried is where the line through the margins at both
    ends crosses 0. After two poor guesses it is the middle.

    Args:
        start: `(N,)` in int64, numbers of steps above which is searched.

    >>> margins = torch.tensor([0.3, -1.0, 9.0])
    >>> largest(lambda images, eps: margins[images] - eps, torch.zeros(3, dtype=torch.long), 10).tolist()
    [2, 0, 10]
    """
    low, poor = start.clone(), torch.zeros_like(start)
    above = at_start = margins_at(torch.arange(len(start)), start / steps)
    below = torch.full_like(above, -torch.inf)
    high = torch.where(above > 0, steps + 1, start + 1)
    while len(images := (high - low > 1).nonzero()[:, 0]):
        left, right, over, under = low[images], high[images], above[images], below[images]
        middle, bracketed = (left + right) // 2, right <= steps
        crossing = torch.where(under.isfinite(), left + _whole(over / (over - under) * (right - left)), middle)
        beyond = _beyond(left - start[images], over, at_start[images] - over, steps)
        guess = torch.where(bracketed, crossing, torch.clamp(left + beyond, max=steps))
        guess = torch.where(poor[images] < 2, guess, middle).clamp(left + 1, right - 1)
        margin = margins_at(images, guess / steps)
        is_poor = bracketed & (torch.minimum(guess - left, right - guess) < PART * (right - left))
        poor[images] = torch.where(is_poor & (poor[images] < 2), poor[images] + 1, 0)
        certified = margin > 0
        low[images], high[images] = torch.where(certified, guess, left), torch.where(certified, right, guess)
        above = above.index_copy(0, images, torch.where(certified, margin, over))
        below = below.index_copy(0, images, torch.where(certified, under, margin))
    return low


def _beyond(done: Tensor, margin: Tensor, lost: Tensor, steps: int) -> Tensor:
    """How many steps to go on after `done` steps, over which so much margin was `lost`: to where it would be 0."""
    first = max(1, round(FIRST * steps))
    return torch.maximum(_whole(done / lost * margin) + 1, GROWTH * done).clamp(first, steps)


def _whole(steps: Tensor) -> Tensor:
    """Rounded down; 0 where it is not a number."""
    return steps.nan_to_num(0.0, posinf=2.0**31, neginf=0.0).floor().long()
