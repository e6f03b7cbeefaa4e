"""Decoding and letterboxing."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mirst.data.colour import is_colour
from mirst.data.deep_pictures import deep_values
from mirst.data.dicom import dicom_values
from mirst.data.file_kind import Kind, file_kind
from mirst.data.npz import npz_array
from mirst.data.record import ImageFile
from mirst.data.value_range import EIGHT_BITS, Intensity, ValueRange, Values, covering
from mirst.errors import MirstError
from mirst.untrusted.lfs_pointers import require_content
from mirst.untrusted.pictures import open_picture, require_sides

Pixels = NDArray[np.uint8]


def decode(file: ImageFile, channels: int = 1) -> Image.Image:
    """The image as 8-bit gray (`channels=1`) or RGB (3), upright.

    Transparent pixels are black, EXIF rotation is applied. DICOM files are cropped to the tissue
    region and displayed as their header states. Values of more than 8 bits are mapped from the `value_range` of
    `file`; without one, from the range of the image itself (`covering`).

    Raises:
        MirstError: the file is missing, not a regular file, a Git LFS pointer, truncated, too large to be safe, or
            not an image.
    """
    return as_stored(file).convert("L" if channels == 1 else "RGB")


def as_stored(file: ImageFile) -> Image.Image:
    """As `decode`, in the mode of the file: gray or in colour.

    Raises:
        MirstError: as `decode`.
    """
    values = _values(file)
    image = _decode_eight_bit(file) if values is None else Image.fromarray(values.eight_bit(file.value_range))
    require_sides(file.path, image.size)
    return image


def images_in_colour(files: Sequence[ImageFile]) -> list[int]:
    """Indices of the images that `is_colour`.

    Raises:
        MirstError: as `decode`.
    """
    return [number for number, file in enumerate(files) if is_colour(as_stored(file))]


def intensity(file: ImageFile) -> Intensity:
    """The range that the file states for the image, else the true range of its values.

    Raises:
        MirstError: as `decode`; damage in an 8-bit image is not detected.
    """
    values = _values(file)
    return EIGHT_BITS if values is None else values.intensity


def picture_count(file: ImageFile) -> int:
    """How many pages or frames an image file contains, of which only the first is read; 1 for all other files.

    Pages after a damaged one are not counted.
    """
    if file_kind(file.path) is not Kind.PICTURE:
        return 1
    try:
        with open_picture(file.path) as image:
            return int(getattr(image, "n_frames", 1))
    except MirstError:  # reported when the first one is decoded
        return 1


def with_shared_range(files: Sequence[ImageFile]) -> list[ImageFile]:
    """The files; those without a `value_range` get one for all images that state none.

    Raises:
        MirstError: as `decode`.
    """
    shared = shared_range(intensity(file) for file in files)
    return [file._replace(value_range=file.value_range or shared) for file in files]


def shared_range(intensities: Iterable[Intensity]) -> ValueRange | None:
    """The range for images that state none; `None` if every image states its own."""
    unstated = [one.range for one in intensities if not one.source]
    return covering(unstated) if unstated else None


def _values(file: ImageFile) -> Values | None:
    """The numbers of the image; `None` for an 8-bit image."""
    if not file.path.is_file():
        raise MirstError(f"{file.path} is not a file; correct its path or remove it")
    require_content(file.path)
    kind = file_kind(file.path)
    if kind in (Kind.NPZ, Kind.NPY):
        return None
    return dicom_values(file.path, file.item) if kind is Kind.DICOM else deep_values(file.path)


def _decode_eight_bit(file: ImageFile) -> Image.Image:
    decoders = {Kind.NPZ: _decode_npz, Kind.NPY: _decode_npy}
    return decoders.get(file_kind(file.path), _decode_picture)(file)


def _decode_picture(file: ImageFile) -> Image.Image:
    with open_picture(file.path) as opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        image.load()
        if image.mode == "LAB":
            image = _from_lab(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return image


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)


def _decode_npz(file: ImageFile) -> Image.Image:
    split, _, number = (file.item or "").partition("/")
    images = npz_array(file.path, f"{split}_images")
    if images.dtype != np.uint8 or images.shape[3:] not in ((), (1,), (3,)):
        raise MirstError(
            f"{file.path} contains {images.dtype} images {images.shape}; only 8-bit gray or RGB images are accepted"
        )
    return Image.fromarray(images[int(number)].squeeze())


def _decode_npy(file: ImageFile) -> Image.Image:
    if file.item is None:
        raise MirstError(f"{file.path} is an array and not an image; give an image file")
    try:
        pixels = np.load(file.path, mmap_mode="r", allow_pickle=False)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise MirstError(
                f"{file.path} contains {pixels.dtype} {pixels.shape}; only 8-bit (N, 1 or 3, H, W) is accepted"
            )
        return Image.fromarray(np.asarray(pixels[int(file.item)]).transpose(1, 2, 0).squeeze())
    except MirstError:
        raise
    except Exception as error:  # numpy's header parser raises whatever Python's does
        raise MirstError(f"cannot read image {file.item} of {file.path} ({error}); prepare it again") from error


def letterbox(image: Image.Image, size: int) -> Image.Image:
    """Pad with zeros to a centred square, then resize to `size` x `size`. The aspect ratio is kept."""
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
