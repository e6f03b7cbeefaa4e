"""The images of a dossier, found by the hash of their files, as its models see them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from mirst.data import CarriedImages, ImageSet, PreparedImages, Record
from mirst.dossier.answers import Answer, Verdict, judged
from mirst.dossier.image_table import image_hashes, keys_of, records_of
from mirst.study.prepared import images_in_view, lesions_in_view
from mirst.study.spec import StudySpec


@dataclass(frozen=True)
class FoundImages:
    """Those images of a dossier that are on this machine with the pixels that the models saw."""

    spec: StudySpec
    table: pd.DataFrame
    """Rows of `images.csv`."""
    records: list[Record]
    images: PreparedImages | CarriedImages

    def batch(self, keys: Sequence[tuple[str, str]]) -> tuple[list[int], Tensor]:
        """Which of the images, given by source and name, were found, and their `(N, C, H, W)` inputs."""
        at = {key: position for position, key in enumerate(keys_of(self.table))}
        there = [number for number, key in enumerate(keys) if key in at]
        chosen = np.array([at[keys[number]] for number in there], dtype=np.int64)
        lesions = lesions_in_view(self.spec, self.images)
        labels = np.zeros(len(chosen), dtype=np.int64)
        own = ImageSet(self.images.pixels[chosen], labels, lesions=lesions and lesions.at(chosen))
        return there, own[list(range(len(chosen)))][0]


def find_images(
    spec: StudySpec, table: pd.DataFrame, folders: Sequence[Path], same_preparation: bool
) -> tuple[FoundImages | None, list[Answer]]:
    """The images whose files are in the folders, under whatever names, and what became of the others.

    Args:
        table: that of `images.csv`.
        same_preparation: whether this version prepares images as that of the dossier did.

    Raises:
        MirstError: an image that is there but cannot be read.
    """
    paths = _by_digest(folders, set(table["file"]))
    here = table[table["file"].isin(paths)].reset_index(drop=True)
    if here.empty:
        return None, [
            Answer(Verdict.UNCHECKED, "images", f"none of {len(table)} is there; give their folder with --data")
        ]
    records = records_of(here, [paths[digest] for digest in here["file"]])
    images = images_in_view(spec, [record.file for record in records], [record.box for record in records])
    hashes = [image_hashes(pixels) for pixels in images.pixels]
    same = np.array(
        [tuple(own) == stated for own, stated in zip(here[["pixels", "perceptual"]].to_numpy(), hashes, strict=True)]
    )
    odd = [f"{name} has other pixels than the dossier says" for name in here["image"][~same]]
    if odd and not same_preparation:
        detail = f"{len(odd)} are prepared in another way by the versions of the packages that are installed here"
        answers = [Answer(Verdict.UNCHECKED, "pixels", detail)]
    else:
        answers = [
            judged("images", odd, Verdict.PROVED, f"{same.sum()} of {len(table)} have the hashes of the dossier")
        ]
    if len(here) < len(table):
        answers.append(
            Answer(Verdict.UNCHECKED, "other images", f"{len(table) - len(here)} are not in the folder of --data")
        )
    kept = np.flatnonzero(same)
    if not len(kept):
        return None, answers
    features = None if images.features is None else images.features[kept]
    carried = CarriedImages(np.asarray(images.pixels[kept]), features)
    return FoundImages(spec, here.iloc[kept], [records[at] for at in kept], carried), answers


def _by_digest(folders: Sequence[Path], wanted: set[str]) -> dict[str, Path]:
    """The files of these digests; for a file such as a manifest, it or those of its folder. Links are not followed."""
    found = dict[str, Path]()
    for folder in folders:
        for path in sorted((folder if folder.is_dir() else folder.parent).rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest in wanted:
                    found.setdefault(digest, path)
    return found
