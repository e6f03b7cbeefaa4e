"""Images and perturbations as small pictures in `data:` URIs."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from mirst.box_code import without_box
from mirst.report.figures import image_uri

SIDE = 128
"""Maximum width and height of a picture in pixels, so that the page stays small."""
Pixels = NDArray[np.floating[Any]]


def picture_uri(image: Pixels) -> str:
    """Of `(C, H, W)` in [0, 1].

    >>> picture_uri(np.zeros((1, 8, 8)))[:22]
    'data:image/png;base64,'
    """
    pixels = (255 * without_box(image).clip(0, 1)).round().astype(np.uint8)
    return _png(Image.fromarray(pixels.transpose(1, 2, 0).squeeze()))


def perturbation_uri(delta: Pixels, eps: float) -> str:
    """The channel mean of `(C, H, W)`: red brighter, blue darker, full colour at eps.

    >>> perturbation_uri(np.zeros((1, 8, 8)), 0.01)[:22]
    'data:image/png;base64,'
    """
    share = without_box(delta).mean(0) / (2 * eps) if eps else np.zeros(delta.shape[1:])
    colours = colormaps["RdBu_r"](share + 0.5, bytes=True)
    return _png(Image.fromarray(colours[..., :3]).quantize(32))


def _png(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return image_uri(image, optimize=True)
