"""Files that visitors send: bounded, read once, and gone."""

from pathlib import Path

from PIL import Image

from mirst.data import ImageFile, decode
from mirst.errors import MirstError

MAX_BYTES = 20 * 2**20
SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
LONGEST = 2048
"""Larger pictures are reduced to it: the models see far fewer pixels."""


def take(path: Path) -> Image.Image:
    """The picture that was sent, in RGB. The file is deleted, whatever comes of it.

    Raises:
        MirstError: too many bytes, another kind of file, or none that can be read as one image; the
            sentence names nothing of this machine.
    """
    try:
        if path.suffix.lower() not in SUFFIXES:
            raise MirstError(f"Only {', '.join(SUFFIXES)} files are read.")
        if path.stat().st_size > MAX_BYTES:
            raise MirstError(f"The file is larger than {MAX_BYTES // 2**20} MB; send a smaller one.")
        image = decode(ImageFile(path), channels=3)
    except MirstError as error:
        raise MirstError(str(error).replace(str(path), "the file")) from error
    except OSError as error:
        raise MirstError("The file did not arrive whole; send it again.") from error
    finally:
        path.unlink(missing_ok=True)
    image.thumbnail((LONGEST, LONGEST))
    return image
