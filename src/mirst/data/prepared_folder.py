"""A data set in the form in which it travels to another machine."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mirst.data.cache import prepare_images
from mirst.data.inspection import FINDINGS, inspect_images, to_json
from mirst.data.readers.prepared import COLUMNS, PIXELS, TABLE
from mirst.data.record import Record
from mirst.errors import MirstError
from mirst.files import write_csv, write_text


def write_prepared(records: Sequence[Record], out: Path, size: int, channels: int = 1) -> Path:
    """Write the images, letterboxed, and what they are into the new folder `out`, whole or not at all.

    `read_dataset` reads it; a study of that size finds the very pixels and the findings of the audit,
    without the original files.

    Raises:
        MirstError: an image that cannot be read, or an `out` that is there already or cannot be written.
    """
    if out.exists():
        raise MirstError(f"{out} exists; name a new folder with --out or remove it")
    files = [record.file for record in records]
    found = inspect_images(files)
    images = prepare_images([file._replace(value_range=found.value_range) for file in files], size, channels)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        shutil.copyfile(images.folder / PIXELS, partial / PIXELS)
        rows = [[getattr(record, column) for column in COLUMNS] for record in records]
        write_csv(partial / TABLE, pd.DataFrame(rows, columns=COLUMNS))
        write_text(partial / FINDINGS, to_json(found))
        partial.rename(out)
    except OSError as error:
        raise MirstError(f"cannot write {out} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out
