"""The result of a check for gradient masking, and what all checks share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from mirst.attacks import Attack
from mirst.batches import checked_batch
from mirst.errors import MirstError
from mirst.nn.logits import logits_of, misclassified
from mirst.random_draws import uniform

Verdict = Literal["pass", "suspect", "fail"]
ORDER: tuple[Verdict, ...] = ("pass", "suspect", "fail")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    >>> Check("noise", "pass", "random noise misclassifies 2 of 64 images, the attacks 30").verdict
    'pass'
    """

    name: str
    verdict: Verdict
    figures: str
    """One sentence with the figures."""


def failing(name: str, failed: bool, figures: str) -> Check:
    """A check that either fails or passes."""
    return Check(name, "fail" if failed else "pass", figures)


def overall(checks: Sequence[Check]) -> Verdict:
    """The worst verdict: "fail" before "suspect" before "pass".

    Raises:
        MirstError: no checks.

    >>> overall([Check("noise", "pass", ""), Check("budget", "suspect", "")])
    'suspect'
    """
    if not checks:
        raise MirstError("no check was run, so there is no verdict")
    return max((check.verdict for check in checks), key=ORDER.index)


def tolerance(images: int) -> float:
    """By how many images two counts may differ before a check reacts: 1, or 1 % of `images` if that is more.

    >>> tolerance(64), tolerance(500)
    (1.0, 5.0)
    """
    return max(1.0, images / 100)


def require_batch(x: Tensor, y: Tensor, eps: float = 1.0) -> None:
    """Raise `MirstError` unless `x` are images, `y` their labels, and `eps` lies in (0, 1]."""
    checked_batch(x, y)
    if not 0 < eps <= 1:
        raise MirstError(f"eps is {eps}; it must lie above 0 and at most at 1, in units of the pixel range")


def require_count(count: int, images: int) -> None:
    """Raise `MirstError` unless `count` of `images` is possible."""
    if not 0 <= count <= images or not images:
        raise MirstError(f"{count} of {images} images cannot be misclassified; a count lies between 0 and the images")


def misclassified_by(
    model: nn.Module, x: Tensor, y: Tensor, attacks: Iterable[Attack], generator: torch.Generator | None = None
) -> Tensor:
    """Which images are misclassified, `(N,)`: clean, or by one of the attacks.

    An attack runs only on the images that are still classified correctly.
    """
    wrong = misclassified(logits_of(model, x), y)
    for attack in attacks:
        left = (~wrong).nonzero().flatten()
        if not len(left):
            break
        attacked = attack(model, x[left], y[left], generator=generator)
        wrong[left] = misclassified(logits_of(model, attacked), y[left])
    return wrong


def random_signs(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Like `x`, each entry -1 or 1 with equal probability."""
    return uniform(x.shape, x, generator).round() * 2 - 1
