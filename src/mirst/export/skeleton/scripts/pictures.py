"""Pictures, as the network has learnt from them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def picture_files(folder: str) -> list[str]:
    """The pictures directly in `folder`, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    files = [str(path) for path in sorted(Path(folder).absolute().glob("*")) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no {', '.join(sorted(SUFFIXES))} file; name the folder by --dataset_dir"
        )
    return files


class Letterbox:
    """A converter for MONAI's `PILReader`: the picture upright, padded with zeros to a centred square and resized.

    16-bit pictures are scaled down to 8, transparent pixels are black.

    Args:
        size: side of the result.
        channels: 1 for gray, 3 for RGB.
    """

    def __init__(self, size: int, channels: int) -> None:
        self.size = size
        self.mode = "L" if channels == 1 else "RGB"

    def __call__(self, picture: Image.Image) -> Image.Image:
        image = _eight_bit(ImageOps.exif_transpose(picture)).convert(self.mode)
        side = max(image.size)
        square = Image.new(self.mode, (side, side))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return square.resize((self.size, self.size), Image.Resampling.BILINEAR)


def _eight_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return image
