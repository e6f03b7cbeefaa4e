"""A data set in the form in which it travels to another machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mirst.data.cache import prepare_images
from mirst.data.inspection import FINDINGS, inspect_images, to_json
from mirst.data.readers.prepared import COLUMNS, PIXELS, TABLE
from mirst.data.record import Record
from mirst.files import new_folder, require_new, write_csv, write_text


def write_prepared(records: Sequence[Record], out: Path, size: int, channels: int = 1) -> Path:
    """Write the images, letterboxed, and what they are into the new folder `out`, whole or not at all.

    `read_dataset` reads it; a study of that size finds the very pixels and the findings of the audit,
    without the original files.

    Raises:
        MirstError: an image that cannot be read, or an `out` that is there already or cannot be written.
    """
    require_new(out)
    files = [record.file for record in records]
    found = inspect_images(files)
    images = prepare_images([file._replace(value_range=found.value_range) for file in files], size, channels)
    rows = [[getattr(record, column) for column in COLUMNS] for record in records]
    with new_folder(out) as folder:
        shutil.copyfile(images.folder / PIXELS, folder / PIXELS)
        write_csv(folder / TABLE, pd.DataFrame(rows, columns=COLUMNS))
        write_text(folder / FINDINGS, to_json(found))
    return out
