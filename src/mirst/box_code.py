"""The box of a lesion as a plane of 0 and 1, which travels with an image as one more channel.

`docs/decisions/box-fusion.md` says why the box is a channel and not a second argument.
"""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirst.errors import MirstError

LOWEST, HIGHEST = (-4.0, -12.0), (4.0, 0.0)
"""Range of the log aspect and of the log area; values outside are clipped."""
BITS = 16
"""Of each feature: steps of 1.2e-4 of the log aspect and 1.8e-4 of the log area."""
LEVELS = 2**BITS - 1
USED = 1 + 2 * BITS
"""Pixels of the plane that carry the code: its first ones, row by row."""

Images = TypeVar("Images", Tensor, NDArray[np.floating], NDArray[np.uint8])


def box_code(features: Tensor | NDArray[np.floating], size: int) -> Tensor:
    """The planes that spell the features of boxes in fixed point.

    The first pixel, row by row, is 1 if a box is known. The next 16 spell the log aspect, the most significant bit
    first, and the next 16 the log area. All other pixels are 0.

    Args:
        features: `(N, 2)`, natural logarithms of box height / box width and of box area / image area; NaN in a row of
            which the box is unknown. They are clipped to [-4, 4] and [-12, 0].
        size: side of the images.

    Returns:
        `(N, 1, size, size)` of 0 and 1 in float32.

    Raises:
        MirstError: features of another shape, or planes of less than 33 pixels.

    >>> plane = box_code(np.array([[0.5, -3.0], [np.nan, np.nan]]), 32)
    >>> plane.shape, plane[1].any().item()
    (torch.Size([2, 1, 32, 32]), False)
    """
    features = torch.as_tensor(features)
    if features.ndim != 2 or features.shape[1] != 2:
        raise MirstError(f"box features have the shape {tuple(features.shape)}; give (N, 2): log aspect and log area")
    if size * size < USED:
        raise MirstError(f"the box code needs {USED} pixels, but images of {size} px have {size * size}; raise size")
    known = is_known(features)
    numbers = torch.where(known[:, None], _levels(features), 0).long()
    bits = (numbers[:, :, None] >> torch.arange(BITS - 1, -1, -1, device=numbers.device)) & 1
    plane = torch.zeros(len(features), size * size, device=features.device)
    plane[:, 0] = known.float()
    plane[:, 1:USED] = bits.flatten(1).float()
    return plane.view(-1, 1, size, size)


def box_features(plane: Tensor) -> tuple[Tensor, Tensor]:
    """The features that a plane of `box_code` spells, and whether a box is known.

    Each pixel counts as 1 above 0.5, so no perturbation smaller than 0.5 changes the result. Its gradient is 0.

    Args:
        plane: `(N, 1, H, W)`, of at least 33 pixels.

    Returns:
        `(N, 2)` in float32, 0 where no box is known, and `(N,)` booleans.

    >>> features, known = box_features(box_code(torch.tensor([[0.5, -3.0]]), 32) - 0.4)
    >>> features.numpy().round(3).tolist(), known.tolist()
    ([[0.5, -3.0]], [True])
    """
    bits = plane.detach().flatten(1)[:, :USED] > 0.5
    known = bits[:, 0]
    worth = 2.0 ** torch.arange(BITS - 1, -1, -1, dtype=torch.float32, device=plane.device)  # exact: below 2^24
    numbers = (bits[:, 1:].to(torch.float32).view(-1, 2, BITS) * worth).sum(2)
    return torch.where(known[:, None], _values(numbers), 0.0), known


def quantised(features: Tensor) -> Tensor:
    """The `(N, 2)` features that `box_features` reads from the plane of `features`, in float32; 0 for an unknown box.

    >>> quantised(torch.tensor([[9.0, -3.0]])).numpy().round(3).tolist()
    [[4.0, -3.0]]
    """
    return torch.where(is_known(features)[:, None], _values(_levels(features)), 0.0)


def is_known(features: Tensor) -> Tensor:
    """Which rows of `(N, 2)` features are those of a known box: those without NaN."""
    return ~features.isnan().any(1)


def without_box(images: Images) -> Images:
    """`(..., C, H, W)` images for display, without the box code if there is one.

    Images have 1 or 3 channels, so an even number of channels says that the last one is a box code.

    >>> without_box(torch.zeros(5, 4, 8, 8)).shape, without_box(torch.zeros(1, 8, 8)).shape
    (torch.Size([5, 3, 8, 8]), torch.Size([1, 8, 8]))
    """
    return images if images.shape[-3] % 2 else images[..., :-1, :, :]


def _levels(features: Tensor) -> Tensor:
    """Whole numbers from 0 to `LEVELS`, in float32."""
    low, span = _range(features.device)
    levels: Tensor = (features.to(torch.float32) - low) / span * LEVELS
    return levels.clamp(0, LEVELS).round()


def _values(levels: Tensor) -> Tensor:
    low, span = _range(levels.device)
    values: Tensor = low + span * (levels / LEVELS)
    return values


def _range(device: torch.device) -> tuple[Tensor, Tensor]:
    """The lowest features, and how far the highest are from them."""
    low, high = (torch.tensor(end, dtype=torch.float32, device=device) for end in (LOWEST, HIGHEST))
    return low, high - low
