"""Uploaded files: recognised by their content, checked before they are decoded, and deleted after one read."""

import tempfile
from pathlib import Path

from PIL import Image

from mirst.data import ImageFile, decode
from mirst.data.dicom import forget, require_one_slice
from mirst.errors import MirstError
from mirst.untrusted.pictures import open_picture

MAX_BYTES = 20 * 2**20
TOO_LARGE = f"The file is larger than {MAX_BYTES // 2**20} MB; upload a smaller one."
BEGINNINGS = {".png": (0, b"\x89PNG\r\n\x1a\n"), ".jpg": (0, b"\xff\xd8\xff"), ".dcm": (128, b"DICM")}
MAX_SIDE = 8192
LONGEST = 2048
"""Larger images are reduced to this side: models use far fewer pixels."""


def take(path: Path, value_range: tuple[float, float] | None = None) -> Image.Image:
    """The uploaded image, in RGB. The file is deleted in any case.

    Args:
        value_range: of the model's card.

    Raises:
        MirstError: too many bytes, another kind of file, or a file that is not one readable image. The message
            contains no paths of the server.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise MirstError(TOO_LARGE)
        content = path.read_bytes()
    except OSError as error:
        raise MirstError("The upload is incomplete; upload the file again.") from error
    finally:
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="mirst-sent-") as folder:
        return _decoded(Path(folder), content, value_range)


def _decoded(folder: Path, content: bytes, value_range: tuple[float, float] | None) -> Image.Image:
    suffix = next((s for s, (at, begin) in BEGINNINGS.items() if content[at : at + len(begin)] == begin), None)
    if suffix is None:
        raise MirstError("Only PNG, JPEG and DICOM files are accepted; for a volume, upload one slice.")
    path = folder / f"sent{suffix}"
    path.write_bytes(content)
    try:
        if suffix == ".dcm":
            require_one_slice(path, MAX_SIDE)
        else:
            with open_picture(path, MAX_SIDE):
                pass  # this checks the header
        image = decode(ImageFile(path, value_range=value_range), channels=3)
    except MirstError as error:
        raise MirstError(str(error).replace(str(path), "the file")) from error
    finally:
        forget()
    image.thumbnail((LONGEST, LONGEST))
    return image
