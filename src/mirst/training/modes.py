"""Train and eval mode of a model's layers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def to_train_mode(model: nn.Module) -> None:
    """Put a model in eval mode into train mode; in a model in train mode every layer keeps its own mode.

    So batch norms stay frozen that were put into eval mode one by one.
    """
    if not model.training:
        model.train()


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """On leaving, every layer is in the mode that it was in before."""
    before = [(layer, layer.training) for layer in model.modules()]
    try:
        yield
    finally:
        for layer, mode in before:
            layer.training = mode
