"""What an attack ascends: one loss per image, from logits `(N, K)` and labels `(N,)`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy per image, `(N,)`."""
    return F.cross_entropy(logits, y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """`max_{i != y} Z_i - Z_y` per image, `(N,)`: positive where the image is misclassified.

    Source: Carlini and Wagner 2017, f6 without its clamp at -kappa.
    """
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - own
