"""The images of a study without their pixels: names, labels, groups, folds and hashes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from mirst.data import Box, Record
from mirst.data.cache import content_digests
from mirst.errors import MirstError
from mirst.files import as_named, harmless
from mirst.study.prepared import Prepared

COLUMNS = ["source", "image", "label", "group", "fold", "split", "extra", "file", "item", "value_range", "box"]
HASHES = ["pixels", "perceptual"]
NO_FOLD = -1
"""The fold of an image that no fold tests."""
_SIDE = 8
_BOX = TypeAdapter(Box | None)
_RANGE = TypeAdapter(tuple[float, float] | None)


def image_table(prepared: Prepared) -> pd.DataFrame:
    """A row for each image in the order of the study: `COLUMNS`, then the hashes of what the models see of it.

    `fold` is the fold that tests it, `file` the SHA-256 of its file, `pixels` that of the prepared pixels.
    """
    folds = np.full(len(prepared.records), NO_FOLD)
    for number, fold in enumerate(prepared.folds):
        folds[fold.test] = number
    digests = content_digests([record.path for record in prepared.records])
    own = len(prepared.records) - prepared.extra
    rows = [
        (
            *(record.source, record.name, record.label, record.group, int(folds[at]), record.split, at >= own),
            *(digests[record.path], record.item, json.dumps(record.value_range), json.dumps(record.box)),
            *image_hashes(prepared.images.pixels[at]),
        )
        for at, record in enumerate(prepared.records)
    ]
    return pd.DataFrame(rows, columns=[*COLUMNS, *HASHES])


def read_image_table(path: Path) -> pd.DataFrame:
    """The table, its numbers and booleans checked; all other cells are texts.

    Raises:
        MirstError: a missing column or a value of another kind.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in (*COLUMNS, *HASHES) if column not in table]
    if missing or table.empty:
        raise MirstError(f"{path.name} lacks {missing[0] if missing else 'rows'}; it is not part of a dossier")
    if not table["fold"].str.fullmatch(r"-1|\d{1,4}").all() or not table["extra"].isin(["True", "False"]).all():
        raise MirstError(f"{path.name} has a fold that is not a number, or an extra that is neither True nor False")
    if table.duplicated(["source", "image"]).any():
        raise MirstError(f"{path.name} has an image twice; it is not part of a dossier")
    return table.assign(fold=table["fold"].astype(int), extra=table["extra"] == "True")


def records_of(table: pd.DataFrame, paths: Sequence[Path]) -> list[Record]:
    """The records of the rows, each with the path of its image.

    Raises:
        MirstError: a box or value range that is none.
    """
    try:
        return [
            Record(
                path=path,
                label=as_named(row["label"]),
                group=as_named(row["group"]),
                source=as_named(row["source"]),
                name=as_named(row["image"]),
                item=row["item"] or None,
                value_range=_RANGE.validate_json(row["value_range"]),
                split=as_named(row["split"]) or None,
                box=_BOX.validate_json(row["box"]),
            )
            for path, row in zip(paths, table.to_dict("records"), strict=True)
        ]
    except ValidationError as error:
        raise MirstError("images.csv has a box or a value_range that cannot be read") from error


def image_hashes(pixels: NDArray[np.uint8]) -> tuple[str, str]:
    """SHA-256 of `(C, H, W)` pixels, and a perceptual hash that survives small changes, as hexadecimal numbers.

    The perceptual hash says for each of 8 x 8 cells whether it is brighter than the next one in its row.

    >>> image_hashes(np.zeros((1, 16, 16), np.uint8))[1]
    '0000000000000000'
    """
    gray = Image.fromarray(pixels.mean(0).astype(np.uint8)).resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    cells = np.asarray(gray).astype(int)
    bits = np.packbits(cells[:, :-1] > cells[:, 1:])
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest(), bits.tobytes().hex()


def keys_of(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Source and name of each row."""
    return list(zip(table["source"], table["image"], strict=True))


def key_of(record: Record) -> tuple[str, str]:
    """Source and name as tables have them."""
    return harmless(record.source), harmless(record.name)
