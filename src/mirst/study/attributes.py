"""The attributes of the images of a study, in a table beside its outcome rows."""

from collections.abc import Sequence

import pandas as pd

from mirst.data import Record, dividing_attributes
from mirst.errors import MirstError
from mirst.files import as_named, write_csv
from mirst.study.layout import StudyFolder
from mirst.study.row_checks import AGAIN

KEYS = ["source", "image"]
"""The columns that name an image."""


def write_attributes(study: StudyFolder, records: Sequence[Record]) -> None:
    """Write `records.csv`, a row per image with its `dividing_attributes`; no file if there are none."""
    names = dividing_attributes(records)
    if not names:
        study.records.unlink(missing_ok=True)
        return
    rows = [(record.source, record.name, *map(record.attributes.get, names)) for record in records]
    write_csv(study.records, pd.DataFrame(rows, columns=[*KEYS, *names]))


def read_attributes(study: StudyFolder) -> pd.DataFrame | None:
    """A text column for each attribute, NaN where an image has none; the index is the image's `source` and `image`.

    `None` for a study without attributes.

    Raises:
        MirstError: the table cannot be read, lacks one of the two columns, or has an image twice.
    """
    if not study.records.exists():
        return None
    try:
        table = pd.read_csv(study.records, dtype=str, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise MirstError(f"{study.records} is damaged ({error}); {AGAIN}") from error
    for column in KEYS:
        if column not in table:
            raise MirstError(f"{study.records} lacks the column {column}; {AGAIN}")
    if table.duplicated(KEYS).any():
        twice = table.loc[table.duplicated(KEYS), "image"].iloc[0]
        raise MirstError(f"{study.records} has the image {twice} twice; {AGAIN}")
    return table.set_index(KEYS).rename(columns=as_named).map(as_named, na_action="ignore")
