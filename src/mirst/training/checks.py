"""What `fit` checks before the first epoch: every batch of its loaders, and the model on the first one."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from mirst.batches import Loader, checked_batches, require_labels
from mirst.errors import MirstError
from mirst.nn.device import device_of
from mirst.nn.factory import in_words
from mirst.nn.frozen import frozen
from mirst.nn.logits import Logits, logits_of, require_logits
from mirst.training.modes import to_train_mode


def class_counts(model: nn.Module, data: Loader, *, uses_labels: bool) -> list[int]:
    """Images per class of the training data, as many classes as the model has logits; `model` is left as found.

    Args:
        uses_labels: whether the labels must be classes of the model.

    Raises:
        MirstError: data that can be iterated only once, no or bad batches, a single image under batch norm; a model
            whose output is not finite `(N, K)` logits, K the number of classes, or has no gradient.
    """
    classes = 0
    parts: list[Tensor] = []
    for number, (x, y) in enumerate(_every_batch(data, "training"), 1):
        if len(x) == 1 and _has_training_batch_norm(model):
            mend = "use a larger batch size" if number == 1 else "set drop_last=True in the DataLoader"
            raise MirstError(f"training batch {number} contains a single image, and batch norm needs two; {mend}")
        if not parts:
            classes = _trained_classes(model, x)
        parts.append(y.cpu())
    labels = torch.cat(parts)
    if uses_labels:
        _require_labels(labels, classes, "training")
        found = int(labels.max()) + 1
        if found < classes:
            raise MirstError(
                f"class {found} has no training images: the labels run from 0 to {found - 1}, but the model returns "
                f"{classes} logits; add images of every class, or use a model with {found} outputs"
            )
    return [int(count) for count in labels.bincount(minlength=classes)]


def check_validation(model: nn.Module, data: Loader, classes: int | None) -> set[int]:
    """Check validation data, and the model in eval mode on their first batch; nothing random is drawn.

    Args:
        classes: which the labels must be of, if any.

    Returns:
        The labels that occur.

    Raises:
        MirstError: bad data or output, as for `class_counts`.
    """
    with _draws_kept(data):
        parts: list[Tensor] = []
        for x, y in _every_batch(data, "validation"):
            if not parts:
                require_logits(logits_of(model, _on_device(model, x)), len(x), classes)
            parts.append(y.cpu())
    labels = torch.cat(parts)
    if classes is not None:
        _require_labels(labels, classes, "validation")
    return set(labels.tolist())


def require_trainable(model: nn.Module) -> None:
    """Raise `MirstError` unless some parameter of `model` can be trained."""
    parameters = list(model.parameters())
    if not parameters:
        raise MirstError("the model has no parameters to train")
    if any(is_lazy(parameter) for parameter in parameters):
        raise MirstError("the model has lazy layers without weights; call it once on a batch before")
    if not any(parameter.requires_grad for parameter in parameters):
        raise MirstError("every parameter of the model is frozen; set requires_grad of those to train")


def _every_batch(data: Loader, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    if isinstance(data, Iterator):
        raise MirstError(
            f"the {name} data can be iterated only once (type {type(data).__name__}), and every epoch needs them; "
            "give a DataLoader or a list of batches"
        )
    empty = True
    for batch in checked_batches(data, f"{name} batch"):
        empty = False
        yield batch
    if empty:
        raise MirstError(f"the {name} data give no batch")


def _require_labels(labels: Tensor, classes: int, name: str) -> None:
    try:
        require_labels(labels, classes)
    except MirstError as error:
        raise MirstError(f"{name} data: {error}") from error


def _has_training_batch_norm(model: nn.Module) -> bool:
    """Whether some batch norm takes its statistics from the batch while `model` is trained."""
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    return any(norm.training or not model.training or norm.running_mean is None for norm in norms)


def _trained_classes(model: nn.Module, x: Tensor) -> int:
    """K of the logits, the same in train and eval mode; a gradient leads from them to some parameter."""
    asks = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with frozen(model, training=None):
        for parameter, flag in asks:
            parameter.requires_grad_(flag)
        to_train_mode(model)
        logits = _finite_logits(model, x, None)
        if not logits.requires_grad:
            raise MirstError(
                "no gradient leads from the model's logits to a parameter that is to be trained; look for no_grad, "
                "detach or numpy in its forward"
            )
        model.eval()
        return _finite_logits(model, x, logits.shape[1]).shape[1]


def _finite_logits(model: nn.Module, x: Tensor, classes: int | None) -> Tensor:
    x = _on_device(model, x)
    try:
        logits = require_logits(Logits(model)(x), len(x), classes)
    except RuntimeError as error:
        if "size" not in str(error) and "shape" not in str(error) and "channel" not in str(error):
            raise
        raise MirstError(
            f"the model fails on images of shape {tuple(x.shape[1:])} with {in_words(error)}; give it images of its "
            "channels and size, or wrap it (mirst.nn.Normalized replicates a gray image to as many channels as it is "
            "given means)"
        ) from error
    if not logits.isfinite().all():
        raise MirstError(
            "the model's logits are not finite on the first training batch; look at its weights, and for a division "
            "by 0 or a logarithm in its forward"
        )
    return logits


def _on_device(model: nn.Module, x: Tensor) -> Tensor:
    return x.to(device_of(model))


@contextmanager
def _draws_kept(data: Loader) -> Iterator[None]:
    """On leaving, Python's, numpy's and the loader's own generators are where they were before."""
    own = [getattr(holder, "generator", None) for holder in (data, getattr(data, "sampler", None))]
    states = [(g, g.get_state()) for g in own if isinstance(g, torch.Generator)]
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - transforms draw from the global one
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        for generator, state in states:
            generator.set_state(state)
