"""No group straddles a fold, the folds follow from the groups, and the rows are those of the folds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mirst.dossier.answers import Answer, Verdict, judged
from mirst.dossier.image_table import NO_FOLD, keys_of, records_of
from mirst.errors import MirstError
from mirst.study.prepared import split_of
from mirst.study.spec import StudySpec
from mirst.study.summary import TRIAL


def check_groups(spec: StudySpec, images: pd.DataFrame) -> Answer:
    """Whether images of one group are on both sides of a fold."""
    tested = images[(images["fold"] != NO_FOLD) | (spec.folds.kind == "given") & ~images["extra"]]
    folds = tested.groupby("group")["fold"].nunique()
    torn = list(folds[folds > 1].index)
    if spec.folds.kind != "group" and torn:
        detail = f"{len(torn)} of {len(folds)} groups straddle folds, since folds.kind is {spec.folds.kind}"
        return Answer(Verdict.RECOMPUTED, "groups", detail)
    faults = [f"group {group} has test images in {folds[group]} folds" for group in torn]
    return judged("groups", faults, Verdict.PROVED, f"none of {len(folds)} groups straddles a fold")


def check_folds(spec: StudySpec, images: pd.DataFrame, same_packages: bool) -> Answer:
    """Whether the folds are those that mirst makes of the labels, the groups and the seed."""
    own = records_of(images[~images["extra"]], [Path()] * int((~images["extra"]).sum()))
    try:
        folds = split_of(spec, own)
    except MirstError as error:
        return Answer(Verdict.CONTRADICTED, "folds", f"the labels and groups give no folds ({error})")
    expected = np.full(len(images), NO_FOLD)
    for number, fold in enumerate(folds):
        expected[np.flatnonzero(~images["extra"].to_numpy())[fold.test]] = number
    moved = np.flatnonzero(expected != images["fold"].to_numpy())
    if len(moved) and not same_packages:
        detail = f"{len(moved)} images are in other folds with the versions of the packages that are installed here"
        return Answer(Verdict.UNCHECKED, "folds", detail)
    faults = [
        f"{images['image'].iloc[at]} belongs to fold {expected[at]}, not {images['fold'].iloc[at]}" for at in moved
    ]
    detail = f"{len(folds)} folds follow from the labels, groups and seed"
    return judged("folds", faults, Verdict.RECOMPUTED, detail)


def check_rows_of_folds(images: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> Answer:
    """Whether every model has rows of exactly the images of its fold, with their labels and groups."""
    known = images.set_index(["source", "image"])
    tested = {str(fold): set(keys_of(part)) for fold, part in images.groupby("fold")}
    faults, count = list[str](), 0
    for name, rows in tables.items():
        conditions = [*(["attack"] if "attack" in rows else []), "eps"]
        for (defense, _, fold, seed, *_), part in rows.groupby([*TRIAL, *conditions]):
            keys = keys_of(part)
            count += len(keys)
            if set(keys) != tested.get(str(fold)) or len(keys) != len(set(keys)):
                faults.append(f"{name}.csv does not have the images of fold {fold} for {defense}, seed {seed}")
                continue
            own = known.loc[keys]
            for column in ("label", "group"):
                odd = np.flatnonzero(own[column].to_numpy() != part[column].to_numpy())
                faults += [f"{name}.csv has another {column} of {keys[at][1]} than images.csv" for at in odd]
    return judged("rows", faults, Verdict.RECOMPUTED, f"{count} rows are of the test images of their folds")


def check_run(spec: StudySpec, images: pd.DataFrame, data: Mapping[str, Any]) -> Answer:
    """Whether the counts of `run.json` are those of the images."""
    classes = tuple(data["classes"])
    expected = {
        "images": len(images),
        "groups": images["group"].nunique(),
        "per_class": {name: int((images["label"] == name).sum()) for name in classes},
        "classes": list(spec.data.classes or sorted(set(images["label"]))),
    }
    faults = [
        f"run.json has {key} {data[key]}, but the images {own}" for key, own in expected.items() if data[key] != own
    ]
    return judged("data", faults, Verdict.RECOMPUTED, f"{len(images)} images, {expected['groups']} groups")
