"""Losses that attacks ascend: one value per image, from logits `(N, K)` and labels `(N,)`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mirst.errors import MirstError

TINY = 1e-12
"""Against a division by 0."""


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy per image, `(N,)`."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """`max_{i != y} Z_i - Z_y` per image, `(N,)`: positive where the image is misclassified.

    Infinite where a logit is not finite: such an image counts as misclassified.

    Source: Carlini and Wagner 2017, f6 without its clamp at -kappa.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return (others.amax(1) - own).masked_fill(~logits.isfinite().all(1), torch.inf)


def dlr(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Difference of logits ratio per image, `(N,)`: the margin over a spread of the logits.

    Untargeted, `-(Z_y - max_{i != y} Z_i) / (Z_p1 - Z_p3)` with p1, p2, ... the classes by falling logit;
    targeted, `y` is the class to reach, and `(Z_p1 - Z_y) / (Z_p1 - (Z_p3 + Z_p4) / 2)` is to be descended,
    with the largest logit in place of that of the true class, which a targeted attack does not know.

    Raises:
        MirstError: fewer than three classes, or than four if targeted: the ratio is not defined there.

    Source: Croce and Hein 2020, Eq. 6 and 7.
    """
    needed = 4 if targeted else 3
    if logits.shape[1] < needed:
        raise MirstError(
            f"the DLR loss needs at least {needed} classes, not {logits.shape[1]}; use the margin loss instead"
        )
    ordered = logits.sort(dim=1, descending=True).values
    if targeted:
        spread = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
        return (ordered[:, 0] - logits.gather(1, y[:, None]).squeeze(1)) / (spread + TINY)
    return margin(logits, y) / (ordered[:, 0] - ordered[:, 2] + TINY)
