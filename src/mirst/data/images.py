"""Decoding and letterboxing."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mirst.data.dicom import decode_dicom
from mirst.data.file_kind import Kind, file_kind
from mirst.data.npz import npz_array
from mirst.data.pictures import MAX_SIDE, open_picture
from mirst.data.record import ImageFile
from mirst.errors import MirstError
from mirst.files import require_content

Pixels = NDArray[np.uint8]


def decode(file: ImageFile, channels: int = 1) -> Image.Image:
    """The image as 8-bit gray (`channels=1`) or RGB (3), upright.

    16-bit images are scaled down, transparent pixels are black, EXIF rotation is applied. DICOM
    files are shown as their window says and cropped to the tissue region.

    Raises:
        MirstError: the file is missing or no regular one, a Git LFS pointer, truncated, too large to be safe, or
            no image.
    """
    if not file.path.is_file():
        raise MirstError(f"{file.path} is no file; correct its path or remove it")
    require_content(file.path)
    kind = file_kind(file.path)
    if kind is Kind.NPZ:
        image = _decode_npz(file)
    elif kind is Kind.NPY:
        image = _decode_npy(file)
    elif kind is Kind.DICOM:
        image = decode_dicom(file.path, file.item)
    else:
        image = _decode_picture(file.path)
    if max(image.size) > MAX_SIDE:
        raise MirstError(f"{file.path} is {image.width} x {image.height}; sides of at most {MAX_SIDE} pixels are read")
    return image.convert("L" if channels == 1 else "RGB")


def _decode_picture(path: Path) -> Image.Image:
    with open_picture(path) as file:
        image: Image.Image = ImageOps.exif_transpose(file)
        image.load()
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return image


def _decode_npz(file: ImageFile) -> Image.Image:
    split, _, number = (file.item or "").partition("/")
    images = npz_array(file.path, f"{split}_images")
    if images.dtype != np.uint8 or images.shape[3:] not in ((), (1,), (3,)):
        raise MirstError(f"{file.path} holds {images.dtype} images {images.shape}; 8-bit gray or RGB ones are read")
    return Image.fromarray(images[int(number)].squeeze())


def _decode_npy(file: ImageFile) -> Image.Image:
    try:
        pixels = np.load(file.path, mmap_mode="r", allow_pickle=False)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise MirstError(f"{file.path} holds {pixels.dtype} {pixels.shape}; 8-bit (N, 1 or 3, H, W) is read")
        return Image.fromarray(np.asarray(pixels[int(file.item or 0)]).transpose(1, 2, 0).squeeze())
    except MirstError:
        raise
    except Exception as error:  # numpy's header parser raises whatever Python's does
        raise MirstError(f"cannot read image {file.item} of {file.path} ({error}); prepare it again") from error


def letterbox(image: Image.Image, size: int) -> Image.Image:
    """Pad with zeros to a centred square, then resize to `size` x `size`: nothing is stretched."""
    side = max(image.size)
    square = Image.new(image.mode, (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((size, size), Image.Resampling.BILINEAR)


def load_image(file: ImageFile, size: int, channels: int = 1) -> Pixels:
    """The decoded, letterboxed image, `(channels, size, size)`, 0 to 255.

    Raises:
        MirstError: the file cannot be read as an image.
    """
    return np.atleast_3d(np.asarray(letterbox(decode(file, channels), size))).transpose(2, 0, 1)


def load_images(files: Iterable[ImageFile], size: int, channels: int = 1) -> Pixels:
    """Decoded, letterboxed images, `(N, channels, size, size)`, 0 to 255.

    Raises:
        MirstError: a file cannot be read as an image.
    """
    return np.stack([load_image(file, size, channels) for file in files])
