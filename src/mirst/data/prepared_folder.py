"""Prepared folders: a data set in a form that can be copied to another machine."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mirst.data.attributes import dividing_attributes
from mirst.data.cache import prepare_images
from mirst.data.colour import Channels, resolved_channels
from mirst.data.inspection import FINDINGS, inspect_images, to_json
from mirst.data.readers.prepared import COLUMNS, PIXELS, TABLE
from mirst.data.record import Record
from mirst.files import new_folder, require_new, write_csv, write_text


def write_prepared(records: Sequence[Record], out: Path, size: int, channels: Channels = "auto") -> Path:
    """Write letterboxed images, their table and the findings of their audit into the new folder `out`.

    `read_dataset` reads it. A study with this `size` then uses the same pixels and findings without the original files.
    Boxes and masks are left out: the lesion view is cropped from the original pixels. So are attributes of more than
    `MOST_VALUES` values.

    On an error no partial folder remains.

    Raises:
        MirstError: an image that cannot be read, or an `out` that exists already or cannot be written.
    """
    require_new(out)
    files = [record.file for record in records]
    found = inspect_images(files)
    images = prepare_images(
        [file._replace(value_range=found.value_range) for file in files],
        size,
        resolved_channels(channels, found.colour, len(files)),
    )
    attributes = dividing_attributes(records)
    rows = [
        [*(getattr(record, column) for column in COLUMNS), *map(record.attributes.get, attributes)]
        for record in records
    ]
    with new_folder(out) as folder:
        shutil.copyfile(images.folder / PIXELS, folder / PIXELS)
        write_csv(folder / TABLE, pd.DataFrame(rows, columns=[*COLUMNS, *attributes]))
        write_text(folder / FINDINGS, to_json(found))
    return out
