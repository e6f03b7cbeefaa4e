"""Images, prepared as in training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

PHOTOMETRIC, SAMPLE_FORMAT = 262, 339
"""TIFF tags. Pillow inverts WhiteIsZero for 8 bits alone, and mistakes the sign of unsigned 32 and signed 8 bits."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def picture_files(folder: str) -> list[str]:
    """The image files directly in `folder`, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    files = [str(path) for path in sorted(Path(folder).absolute().glob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise FileNotFoundError(
            f"{folder} contains no {', '.join(sorted(SUFFIXES))} file; give the folder with --dataset_dir"
        )
    return files


class Letterbox:
    """A converter for MONAI's `PILReader`: the image upright, padded with zeros to a centred square and resized.

    Transparent pixels are black.

    Args:
        size: side of the result.
        channels: 1 for gray, 3 for RGB.
        value_range: the values of black and white in images of more than 8 bits; by default those of each image.
    """

    def __init__(self, size: int, channels: int, value_range: Sequence[float] | None = None) -> None:
        self.size = size
        self.mode = "L" if channels == 1 else "RGB"
        self.value_range = value_range

    def __call__(self, picture: Image.Image) -> Image.Image:
        image = _eight_bit(picture, self.value_range).convert(self.mode)
        side = max(image.size)
        square = Image.new(self.mode, (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square.resize((self.size, self.size), Image.Resampling.BILINEAR)


def _eight_bit(picture: Image.Image, value_range: Sequence[float] | None) -> Image.Image:
    tags, key = getattr(picture, "tag_v2", {}), picture.info.get("transparency")
    layouts = {args if isinstance(args, str) else args[0] for *_, args in getattr(picture, "tile", []) if args}
    layout = layouts.pop() if len(layouts) == 1 else ""
    signed_bytes = picture.mode == "L" and tags.get(SAMPLE_FORMAT) == (2,)
    if layout[:-1] in ("RGB;16", "RGBA;16", "LA;16"):
        pixels = _sixteen_bit(picture, layout)
        hidden = np.zeros(pixels.shape[:2], bool) if key is None else (pixels == np.asarray(key)).all(axis=-1)
    elif picture.mode.startswith(("I", "F")) or signed_bytes:
        if picture.format == "PPM" and picture.mode == "I":
            value_range = (0, 65535)
        pixels = np.asarray(ImageOps.exif_transpose(picture))
        if signed_bytes:
            pixels = pixels.view(np.int8)
        elif pixels.dtype == np.int32 and tags and tags.get(SAMPLE_FORMAT, (1,)) == (1,):
            pixels = pixels.view(np.uint32)
        hidden = np.zeros(pixels.shape, bool) if key is None else pixels == key
    else:
        return _on_black(ImageOps.exif_transpose(picture))
    return Image.fromarray(_shown(pixels, hidden, value_range, tags.get(PHOTOMETRIC) == 0))


def _shown(
    pixels: NDArray[Any], hidden: NDArray[np.bool_], value_range: Sequence[float] | None, inverted: bool
) -> NDArray[np.uint8]:
    low, high = value_range or _own_range(pixels[~hidden])
    values = pixels.astype(np.float64)
    shown = ((values - low) / (high - low)).clip(0, 1) if high > low else (values > low).astype(np.float64)
    shown = 1 - shown if inverted else shown
    shown[hidden] = 0
    return np.round(np.where(np.isnan(shown), 0, shown) * 255).astype(np.uint8)


def _own_range(values: NDArray[Any]) -> tuple[float, float]:
    """0 to 1, or 0 to a power of two minus one, if the values use a quarter of it; else the smallest to the largest."""
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low >= 0:
        for top in (1, 2 ** max(8, math.ceil(high).bit_length()) - 1):
            if high <= top <= 4 * (high - low):
                return 0, top
    return low, high


def _sixteen_bit(picture: Image.Image, layout: str) -> NDArray[np.uint16]:
    """RGB or gray on black. Pillow keeps the first or the second byte, by the given order."""
    if layout.startswith("LA"):
        parts = _reread(picture, "RGBA").astype(np.uint16)
        pixels = parts[..., ::2] * 256 + parts[..., 1::2]
    else:
        first, second = (_reread(picture, layout[:-1] + order) for order in "BL")
        high, low = (first, second) if layout.endswith("B") else (second, first)
        pixels = high.astype(np.uint16) * 256 + low
    if not layout.startswith("RGB;"):
        pixels = np.round(pixels[..., :-1] * (pixels[..., -1:] / 65535)).astype(np.uint16)
    return pixels.squeeze(-1) if layout.startswith("LA") else pixels


def _reread(picture: Any, layout: str) -> NDArray[np.uint8]:
    again: Any
    with Image.open(picture.filename) as again:
        again.tile = [
            tile._replace(args=layout if isinstance(tile.args, str) else (layout, *tile.args[1:]))
            for tile in again.tile
        ]
        return np.asarray(ImageOps.exif_transpose(again))


def _on_black(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return image
