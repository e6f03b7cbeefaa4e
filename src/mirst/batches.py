"""Checks of batches of images and labels, for attacks, defenses, evaluation and training."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mirst.errors import MirstError

Loader = Iterable[Any]
"""Yields batches that `unpacked` accepts, such as a `DataLoader` or a list of `(x, y)`."""
IMAGE_KEYS = ("image", "images", "img", "pixel_values")
LABEL_KEYS = ("label", "labels")
ROUNDING = 1e-5
"""Pixels outside [0, 1] by at most this, or by one rounding step of their type, are clipped."""
OVERSHOOT = 0.2
"""Resampling exceeds [0, 1] by at most this."""
CHANNELS = (1, 3, 4)
GIVE_BATCHES = "give a DataLoader, or a list of batches such as [(x, y)]"
IGNORED = -100
"""The label that `torch.nn.CrossEntropyLoss` skips by default."""


def checked_batches(data: Loader, name: str = "batch") -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader, each unpacked and checked.

    Raises:
        MirstError: a batch that `unpacked` or `checked_batch` rejects; the message starts with `name` and the
            number of the batch, from 1.
    """
    if not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise MirstError(f"the data are of type {type(data).__name__}; {GIVE_BATCHES}")
    for number, batch in enumerate(data, 1):
        try:
            checked = checked_batch(*unpacked(batch))
        except MirstError as error:
            raise MirstError(f"{name} {number}: {error}") from error
        yield checked


def unpacked(batch: object) -> tuple[Tensor, Tensor]:
    """Images and labels of one batch of a loader.

    Args:
        batch: a tuple or list `(x, y, ...)`, of which everything after the second element is ignored; or a
            mapping with the images under one of `IMAGE_KEYS` and the labels under one of `LABEL_KEYS`, as in
            loaders of MONAI and Hugging Face.

    Returns:
        Unchanged images and labels; subclasses such as MONAI's `MetaTensor` become plain tensors.

    Raises:
        MirstError: a batch of another kind; images or labels that are not tensors.

    >>> x, y = unpacked({"image": torch.zeros(2, 1, 8, 8), "label": torch.tensor([0, 1]), "path": ["a", "b"]})
    >>> x.shape, y
    (torch.Size([2, 1, 8, 8]), tensor([0, 1]))
    """
    if isinstance(batch, Mapping):
        return _tensor(_entry(batch, IMAGE_KEYS), "images"), _tensor(_entry(batch, LABEL_KEYS), "labels")
    if isinstance(batch, tuple | list) and len(batch) > 1:
        return _tensor(batch[0], "images"), _tensor(batch[1], "labels")
    count = f" of {len(batch)}" if isinstance(batch, tuple | list) else ""
    kind = type(batch).__name__
    raise MirstError(f"a batch must be (images, labels) or a mapping, but is of type {kind}{count}; {GIVE_BATCHES}")


def checked_batch(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels, checked for training and attacks.

    Args:
        x: `(N, C, H, W)`, N >= 1, floating point, in [0, 1]. Values outside by at most 1e-5, or by one rounding
            step of half precision, are clipped.
        y: `(N,)` class indices from 0 on, of any integer type or bool.

    Returns:
        `x` in float32 or float64, detached; `y` in int64. Subclasses of `Tensor` become plain tensors.

    Raises:
        MirstError: images or labels of another kind; the message says how to convert it.
    """
    x = _checked_images(_tensor(x, "images"))
    return x, _checked_labels(_tensor(y, "labels"), len(x))


def require_labels(y: Tensor, classes: int) -> None:
    """Raise `MirstError` unless every label is one of `classes` classes, 0 to `classes - 1`."""
    if not len(y):
        return
    y = y.long()  # torch cannot compare the unsigned types above 8 bits
    low, high = int(y.min()), int(y.max())
    if low < 0:
        _reject_negative(y, low, high)
    if high >= classes:
        fix = "subtract 1 from the labels" if low > 0 and high == classes else "give it data with its own classes"
        raise MirstError(
            f"the labels run from {low} to {high}, but the model has {classes} classes, 0 to {classes - 1}; {fix}"
        )


def _entry(batch: Mapping[Any, Any], known: tuple[str, ...]) -> object:
    found = [key for key in known if key in batch]
    if len(found) == 1:
        return batch[found[0]]
    if found:
        raise MirstError(f"the batch has the keys {' and '.join(found)}, which are synonyms; keep one of them")
    keys = f"the keys {', '.join(map(str, batch))}" if batch else "no keys"
    raise MirstError(f"the batch has {keys}; it needs one of {', '.join(known)}")


def _tensor(value: object, what: str) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise MirstError(f"{what} must be an ordinary tensor, but are sparse, nested, quantised or meta tensors")
        return (value.clone() if value.is_inference() else value).as_subclass(Tensor)
    package = type(value).__module__.partition(".")[0]
    if package == "numpy":
        fix = "convert them with torch.from_numpy"
    elif package == "PIL":
        fix = "convert them to tensors (C, H, W) in [0, 1] and join these with torch.stack"
    elif isinstance(value, list | tuple):
        fix = "join tensors with torch.stack, convert numbers with torch.tensor"
    else:
        fix = "give a batch of tensors; a DataLoader makes batches of a data set"
    kind = "None" if value is None else f"of type {type(value).__name__}"
    raise MirstError(f"{what} must be a tensor, but are {kind}; {fix}")


def _checked_images(x: Tensor) -> Tensor:
    if x.ndim != 4:
        raise MirstError(f"images must be floating point (N, C, H, W), but have shape {tuple(x.shape)}; {_axes(x)}")
    if not len(x):
        raise MirstError(f"the batch has no images, shape {tuple(x.shape)}; remove empty batches")
    if not x.numel():
        raise MirstError(f"images must be (N, C, H, W) with pixels, but have shape {tuple(x.shape)}")
    if x.shape[3] in CHANNELS and min(x.shape[1:3]) > max(CHANNELS):
        raise MirstError(
            f"images must be (N, C, H, W), but shape {tuple(x.shape)} looks like (N, H, W, C); "
            "use x.permute(0, 3, 1, 2)"
        )
    if not x.is_floating_point():
        raise MirstError(f"images must be floating point in [0, 1], but are {_named(x)}; {_to_float(x)}")
    rounding = max(ROUNDING, torch.finfo(x.dtype).eps)
    x = x.detach()
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()
    low, high = (float(value) for value in x.aminmax())
    if low >= 0 and high <= 1:
        return x
    if low >= -rounding and high <= 1 + rounding:
        return x.clamp(0, 1)
    if not x.isfinite().all():
        bad = int((~x.isfinite()).flatten(1).any(1).sum())
        raise MirstError(
            f"images must lie in [0, 1], but {bad} of {len(x)} contain NaN or infinity; check their "
            "preparation for a division by 0"
        )
    raise MirstError(f"images must lie in [0, 1], but run from {low:.7g} to {high:.7g}; {_into_range(low, high)}")


def _axes(x: Tensor) -> str:
    """How to get from the shape of `x` to (N, C, H, W)."""
    if x.ndim == 3:
        return "add the missing axis: x[None] for one image (C, H, W), x[:, None] for gray images (N, H, W)"
    if x.ndim < 3:
        return "give images, not feature vectors or single numbers"
    return "take two-dimensional slices of volumes and videos"


def _to_float(x: Tensor) -> str:
    if x.is_complex():
        return "take x.abs() and scale it to [0, 1]"
    if x.dtype == torch.uint8:
        return "use x.float() / 255"
    low, high = (float(value) for value in x.double().aminmax())
    if low >= 0 and high <= 1:
        return "use x.float()"
    return f"they run from {low:.7g} to {high:.7g}: {_into_range(low, high)}"


def _into_range(low: float, high: float) -> str:
    """How to get from pixels of `low` to `high`, some outside [0, 1], into it."""
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
        return "where resampling overshoots, clip them with x.clamp(0, 1)"
    white = next((top for top in (255, 4095, 65535) if high <= top * (1 + OVERSHOOT)), None)
    if white is not None and ((low >= 0 and high > 10) or (low >= -OVERSHOOT * white and high > 100)):
        return f"divide them by {white}{'' if low >= 0 and high <= white else ', then clip them with x.clamp(0, 1)'}"
    if low >= 0:
        return "scale them to [0, 1]"
    if low < -20:
        return "map a fixed window of gray levels to [0, 1]"
    if low >= -1 and high <= 1:
        return "if they are normalised to [-1, 1], use (x + 1) / 2"
    return "remove their normalisation and put it into the model's first layer, mirst.nn.Normalized(model, mean, std)"


def _checked_labels(y: Tensor, count: int) -> Tensor:
    if y.shape != (count,) or y.is_floating_point() or y.is_complex():
        raise MirstError(
            f"labels must be {count} integers, shape ({count},), but are {_named(y)}, shape {tuple(y.shape)}; "
            f"{_to_classes(y, count)}"
        )
    unsigned, y = y.dtype == torch.uint64, y.detach().long()
    if unsigned and bool((y < 0).any()):
        raise MirstError("labels must be class indices, but some are 2**63 or more")
    low = int(y.min())
    if low < 0:
        _reject_negative(y, low, int(y.max()))
    return y


def _to_classes(y: Tensor, count: int) -> str:
    """How to get from `y` to one class index per image."""
    if y.is_complex():
        return "give class indices"
    cast = ".long()" if y.is_floating_point() else ""
    if not y.ndim:
        return "give one label per image"
    if len(y) != count:
        return f"there are {count} images and {len(y)} labels"
    if y.ndim > 2:
        return "give one class per image, not segmentation masks"
    if y.ndim == 2 and y.shape[1] != 1:
        return _from_rows(y.double())
    if cast and not torch.equal(y.double(), y.double().round()):  # torch rounds no float8
        return "give class indices, not probabilities or measurements"
    return f"use y{'' if y.ndim == 1 else '.squeeze(1)'}{cast}"


def _from_rows(rows: Tensor) -> str:
    """`rows`: (N, K), K not 1."""
    if rows.shape[1] and bool((rows >= 0).all()) and bool(((rows.sum(1) - 1).abs() < 1e-3).all()):
        kind = "one-hot" if bool(((rows == 0) | (rows == 1)).all()) else "soft"
        return f"these look like {kind} labels: use y.argmax(1)"
    return "give one class per image, not several labels"


def _reject_negative(y: Tensor, low: int, high: int) -> None:
    if bool((y == IGNORED).any()):
        raise MirstError(
            f"{int((y == IGNORED).sum())} of {len(y)} labels are {IGNORED}, PyTorch's ignore index; remove "
            "images without a class"
        )
    raise MirstError(f"the labels run from {low} to {high}; they must be class indices, starting at 0")


def _named(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
