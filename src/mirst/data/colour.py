"""Whether images are in colour, and how many channels models get of them."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

Channels = Literal[1, 3, "auto"]
"""Gray, colour, or colour if the images have any."""
GRAY_MODES = ("1", "L", "LA", "I", "I;16", "F")
SIDE = 32
"""Images are reduced to this longest side first, which averages the colour noise of JPEG and sensors out."""
DIFFERENCE = 16
"""Gray levels between the strongest and the weakest channel of a pixel above which it is coloured."""
SHARE = 0.02
"""Of coloured pixels, above which an image is in colour: more than a mark or a logo."""


def is_colour(image: Image.Image) -> bool:
    """Whether an image shows colours, whatever it is stored as.

    >>> is_colour(Image.new("RGB", (64, 64), "gray")), is_colour(Image.new("RGB", (64, 64), "pink"))
    (False, True)
    """
    if image.mode in GRAY_MODES:
        return False
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small).astype(int)
    return bool((np.ptp(pixels, axis=2) > DIFFERENCE).mean() > SHARE)


def resolved_channels(channels: Channels, colour: Sequence[int], images: int) -> Literal[1, 3]:
    """`auto` is 3 if at least half of the images are in colour.

    Args:
        colour: which of the `images` are.

    >>> resolved_channels("auto", [0, 2], 4), resolved_channels("auto", [0], 4), resolved_channels(1, [0, 2], 4)
    (3, 1, 1)
    """
    if channels != "auto":
        return channels
    return 3 if colour and 2 * len(colour) >= images else 1


def channels_remark(channels: Channels, colour: Sequence[int], images: int) -> list[str]:
    """A sentence on what the models see of images in colour; none if all are gray."""
    if not colour:
        return []
    what = "All images are" if len(colour) == images else f"{len(colour)} of {images} images are"
    if resolved_channels(channels, colour, images) == 3:
        return [f"{what} in colour, and the models see 3 channels."] if channels == "auto" else []
    change = "3" if channels == "auto" else "auto"
    return [f"{what} in colour, but the models see them in gray; set data.channels to {change} to keep the colour."]
