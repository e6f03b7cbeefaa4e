"""A model's logits on a loader, clean or attacked."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirst.attacks import Attack
from mirst.batches import Loader, checked_batches
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of


def logits_on(model: nn.Module, data: Loader, attack: Attack | None = None) -> tuple[Tensor, NDArray[np.int64]]:
    """Logits `(N, K)` in eval mode and labels `(N,)`; the model is left as found."""
    device = device_of(model)
    outputs, labels = [], []
    for x, y in checked_batches(data):
        x, y = x.to(device), y.to(device)
        if attack is not None:
            x = attack(model, x, y)
        outputs.append(logits_of(model, x).cpu())
        labels.append(y.cpu())
    return torch.cat(outputs), torch.cat(labels).numpy()


def log_odds(logits: Tensor, positive: int) -> Tensor:
    """Of the positive one of two classes, `(N,)`, from logits `(N, 2)`."""
    return logits[:, positive] - logits[:, 1 - positive]
