"""Images of more than 8 bits per channel, as numbers. Pillow alone would truncate or clip their values."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mirst.data.value_range import Intensity, ValueRange, Values
from mirst.untrusted.pictures import open_picture
from mirst.untrusted.tiff_layout import PHOTOMETRIC, SAMPLE_FORMAT, bits_of, in_planes, unread

COLOUR = ("RGB;16", "RGBA;16", "RGBX;16", "RGBa;16")
"""Pillow's names of 16-bit layouts without the byte order. Pillow keeps one byte of each value."""


def deep_values(path: Path) -> Values | None:
    """The values of an image of more than 8 bits per channel, upright; `None` for an image that Pillow reads exactly.

    Pillow inverts WhiteIsZero for 8 bits alone, and mistakes the sign of unsigned 32 and signed 8 bits.

    Raises:
        MirstError: as `open_picture`, or a TIFF that Pillow would reduce to 8 bits.
    """
    with open_picture(path) as image:
        layout, order = _layout(image)
        tags = getattr(image, "tag_v2", {})
        deep = bool(tags) and max(bits_of(tags)) > 8
        if deep and in_planes(tags):
            raise unread(path, tags)
        if layout in COLOUR:
            return _colour(path, layout, order)
        if layout == "LA;16":
            return _gray_alpha(image)
        signed_bytes = image.mode == "L" and tags.get(SAMPLE_FORMAT) == (2,)
        if not (image.mode.startswith(("I", "F")) or signed_bytes):
            if deep:
                raise unread(path, tags)
            return None
        key = image.info.get("transparency")
        stated = Intensity("16 bits", ValueRange(0, 65535)) if image.format == "PPM" and image.mode == "I" else None
        pixels = np.asarray(_upright(image))
    if signed_bytes:
        pixels = pixels.view(np.int8)
    elif pixels.dtype == np.int32 and tags.get(SAMPLE_FORMAT, (1,)) == (1,) and tags:
        pixels = pixels.view(np.uint32)
    hidden = None if key is None else pixels == key
    return Values(pixels, stated, hidden, inverted=tags.get(PHOTOMETRIC) == 0)


def _layout(image: Image.Image) -> tuple[str, str]:
    """The layout of the pixels in the file, such as `RGB;16`, and the byte order."""
    tiles: list[Any] = getattr(image, "tile", [])
    layouts = {args if isinstance(args, str) else args[0] for *_, args in tiles if args}
    layout = str(layouts.pop()) if len(layouts) == 1 else ""
    return layout[:-1], layout[-1:]


def _upright(image: Image.Image) -> Image.Image:
    upright: Image.Image = ImageOps.exif_transpose(image)
    upright.load()
    return upright


def _colour(path: Path, layout: str, order: str) -> Values:
    """Read twice, as big-endian and as little-endian, since Pillow keeps only the first or the second byte.

    RGBa, whose colours are multiplied by alpha, is read as RGBA, or Pillow would divide them.
    """
    first, second = (_reread(path, layout.replace("a", "A") + byte) for byte in "BL")
    high, low = (first, second) if order == "B" else (second, first)
    pixels = high.astype(np.uint16) * 256 + low
    with open_picture(path) as image:
        key = image.info.get("transparency")
    hidden = None if key is None else (pixels[..., :3] == np.asarray(key)).all(axis=-1)
    colours, alpha = pixels[..., :3], pixels[..., 3:]
    return Values(colours if layout == "RGBa;16" else _on_black(colours, alpha), hidden=hidden)


def _reread(path: Path, layout: str) -> NDArray[np.uint8]:
    with open_picture(path) as image:
        tiles: Any = image
        tiles.tile = [
            tile._replace(args=layout if isinstance(tile.args, str) else (layout, *tile.args[1:]))
            for tile in tiles.tile
        ]
        return np.asarray(_upright(image))


def _gray_alpha(image: Image.Image) -> Values:
    """Gray and alpha of two bytes each: read as the four bytes of an RGBA image, no byte is lost."""
    tiles: Any = image
    tiles.tile = [tile._replace(args="RGBA") for tile in tiles.tile]
    parts = np.asarray(_upright(image)).astype(np.uint16)
    gray, alpha = parts[..., 0] * 256 + parts[..., 1], parts[..., 2] * 256 + parts[..., 3]
    return Values(_on_black(gray, alpha))


def _on_black(pixels: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.round(pixels * (alpha / 65535)).astype(np.uint16) if alpha.size else pixels
