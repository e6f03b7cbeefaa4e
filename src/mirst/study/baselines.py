"""The baselines of a lesion study: what the lesion's box and a thumbnail give without a network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mirst.data import CarriedImages, Fold, ImageSet
from mirst.evaluation import named_rows
from mirst.evaluation.baselines import LinearBaseline, fit_baseline
from mirst.evaluation.misplaced_boxes import Outcome, placement_tables
from mirst.evaluation.outcomes import CLEAN
from mirst.evaluation.progress import OnProgress, no_progress
from mirst.files import write_csv
from mirst.study.initial_model import channels_of
from mirst.study.layout import SUITES, StudyFolder
from mirst.study.prepared import Prepared
from mirst.study.results import read_csv

EXACT = "exact"
"""The attack of their attacked rows: the worst case within eps, which no attack exceeds."""


@dataclass(frozen=True)
class Baseline:
    """A baseline of two classes, by what it uses.

    >>> [baseline.name for baseline in BASELINES]
    ['constant', 'box', 'thumbnail', 'thumbnail+box', 'thumbnail+at', 'thumbnail+box+at']
    """

    name: str
    """In the column `defense`."""
    thumbnail: bool = False
    box: bool = False
    robust: bool = False
    """Whether it is trained on its worst case."""


CONSTANT = Baseline("constant")
BOX = Baseline("box", box=True)
BASELINES = (
    CONSTANT,
    BOX,
    Baseline("thumbnail", thumbnail=True),
    Baseline("thumbnail+box", thumbnail=True, box=True),
    Baseline("thumbnail+at", thumbnail=True, robust=True),
    Baseline("thumbnail+box+at", thumbnail=True, box=True, robust=True),
)
"""In the order of the tables: the positive class for every image, and logistic regressions."""


def write_baselines(study: StudyFolder, prepared: Prepared) -> None:
    """Write `baselines.csv` if the study is one of lesions: clean, and at every eps of its attacks, suites and
    certificates.

    The file is computed anew from the data, with the same numbers.
    """
    if prepared.images.features is None:
        return
    write_csv(study.baselines, baseline_rows(prepared, prepared.images.features, _eps(study, prepared)))


def write_baselines_on(target: StudyFolder, prepared: Prepared, external: Prepared) -> None:
    """Write `baselines.csv` of a validation if the study is one of lesions: the baselines of every fold on its images.

    Args:
        target: of the validation.
        external: the study with the images of the validation.
    """
    own, other = prepared.images, external.images
    if own.features is None or other.features is None:
        return
    count = len(prepared.records)
    tested = np.arange(count, count + len(external.records))
    features = np.concatenate([own.features, other.features])
    joint = replace(
        prepared,
        records=[*prepared.records, *external.records],
        images=CarriedImages(np.concatenate([own.pixels, other.pixels]), features),
        labels=np.concatenate([prepared.labels, external.labels]),
        folds=[replace(fold, test=tested) for fold in prepared.folds],
    )
    write_csv(target.baselines, baseline_rows(joint, features, _eps(target, prepared)))


def _eps(study: StudyFolder, prepared: Prepared) -> list[float]:
    """Above 0, of the study's attacks, suites and certificates; of those that differ by rounding alone, the first."""
    tables = [*(study.table(suite) for suite in SUITES), study.certificates]
    suites = [read_csv(table) for table in tables if table.exists()]
    own = [entry.attack.eps for entry in prepared.spec.attacks]
    found = [0.0]
    for eps in [*own, *(eps for rows in suites for eps in rows["eps"].unique())]:
        if not np.isclose(eps, found).any():
            found.append(float(eps))
    return sorted(found)[1:]


def baseline_rows(prepared: Prepared, features: NDArray[np.float64], eps: Sequence[float]) -> pd.DataFrame:
    """Outcome rows of the baselines on the test images of every fold, clean and in their worst case within each eps.

    They are fitted on the whole training part of the fold, including validation images, because they select
    nothing. Their seed is the first of the study, on which they do not depend. Those that are trained on their worst
    case are trained at the largest eps of the study's own attacks. Studies of more than two classes have the constant
    baseline alone, because the others are defined for two classes.

    Args:
        features: `(N, 2)`, `Box.features` of each image, NaN where a box is not known.
        eps: in units of the [0, 1] pixel range.

    Returns:
        The columns of a study's outcome rows. `defense` is the name of the baseline, `attack` is `none` or `exact`.
    """
    images = _images(prepared)
    rows = [
        _rows(prepared, baseline, number, images, features, eps)
        for baseline in _baselines(prepared)
        for number in range(len(prepared.folds))
    ]
    return pd.concat(rows, ignore_index=True)


def misplaced_rows(
    prepared: Prepared, features: NDArray[np.float64], on_progress: OnProgress = no_progress
) -> pd.DataFrame:
    """The table of `evaluate_boxes` per baseline and fold, with the columns of `boxes.csv`.

    A baseline of the box gets the numbers of the misplaced one, and a baseline of the thumbnail the crop around it.

    Args:
        features: as for `baseline_rows`.
    """
    images, baselines, parts = _images(prepared), _baselines(prepared), []
    for number, fold in enumerate(prepared.folds):
        models = [_fitted(prepared, baseline, fold, images, features) for baseline in baselines]
        classify = partial(_outcomes, prepared, models)
        own = prepared.subset(fold.test)
        tables = placement_tables(classify, own, prepared.classes, prepared.positive, on_progress)
        parts += [
            _with_key(table, prepared, baseline, number) for baseline, table in zip(baselines, tables, strict=True)
        ]
    return pd.concat(parts, ignore_index=True)


def _outcomes(prepared: Prepared, models: Sequence[LinearBaseline], placed: ImageSet) -> list[Outcome]:
    assert placed.lesions is not None  # `placement_tables` has checked it
    pixels = _pixels(placed, prepared)
    scores = [model.score(pixels, placed.lesions.features) for model in models]
    return [Outcome(score, _predictions(score, prepared.positive_index)) for score in scores]


def _baselines(prepared: Prepared) -> tuple[Baseline, ...]:
    return BASELINES if len(prepared.classes) == 2 else (CONSTANT,)


def _images(prepared: Prepared) -> NDArray[np.float64]:
    return _pixels(prepared.subset(np.arange(len(prepared.records))), prepared)


def _pixels(images: ImageSet, prepared: Prepared) -> NDArray[np.float64]:
    """`(N, C, H, W)` in [0, 1]: what the networks are evaluated on, without a channel that codes the box."""
    pixels, _ = images[list(range(len(images)))]
    return pixels[:, : channels_of(prepared.spec)].double().numpy()


def _rows(
    prepared: Prepared,
    baseline: Baseline,
    number: int,
    images: NDArray[np.float64],
    features: NDArray[np.float64],
    eps: Sequence[float],
) -> pd.DataFrame:
    fold, is_positive = prepared.folds[number], prepared.labels == prepared.positive_index
    model = _fitted(prepared, baseline, fold, images, features)
    test = fold.test

    def attacked() -> Iterator[pd.DataFrame]:
        for attack, radius in [(CLEAN, 0.0), *((EXACT, one) for one in eps)]:
            score, linf = model.worst_case(images[test], features[test], is_positive[test], radius)
            yield pd.DataFrame(
                {
                    "image": np.arange(len(test)),
                    "label": prepared.labels[test],
                    "attack": attack,
                    "eps": radius,
                    "prediction": _predictions(score, prepared.positive_index),
                    "score": score,
                    "linf": linf,
                }
            )

    rows = named_rows(pd.concat(attacked(), ignore_index=True), prepared.records_at(test), prepared.classes)
    return _with_key(rows, prepared, baseline, number)


def _with_key(rows: pd.DataFrame, prepared: Prepared, baseline: Baseline, fold: int) -> pd.DataFrame:
    key = {"defense": baseline.name, "drop_max": False, "fold": fold, "seed": prepared.spec.seeds[0]}
    return pd.concat([pd.DataFrame(key, index=rows.index), rows], axis=1)


def _fitted(
    prepared: Prepared,
    baseline: Baseline,
    fold: Fold,
    images: NDArray[np.float64],
    features: NDArray[np.float64],
) -> LinearBaseline:
    if baseline == CONSTANT:
        return LinearBaseline(np.zeros(images.shape[1:]), np.zeros(2), intercept=1.0, typical_box=np.zeros(2))
    return fit_baseline(
        images[fold.train],
        features[fold.train],
        prepared.labels[fold.train] == prepared.positive_index,
        thumbnail=baseline.thumbnail,
        box=baseline.box,
        eps=max(entry.attack.eps for entry in prepared.spec.attacks) if baseline.robust else 0.0,
    )


def _predictions(score: NDArray[np.float64], positive: int) -> NDArray[np.int64]:
    """Class indices; equal log-odds go to the first class, as equal logits of a network do."""
    negative = int(positive == 0)
    return np.where(score > 0, positive, np.where(score < 0, negative, 0))
