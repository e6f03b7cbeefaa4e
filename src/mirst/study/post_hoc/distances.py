"""The smallest eps that misclassifies each test image of a finished study, by the model of its fold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from mirst.evaluation import Distances, distances, named_distances
from mirst.evaluation.progress import OnProgress
from mirst.files import atomic
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse

PICTURES = 12
"""Images of the positive class, or else of all classes, that are kept of each trial: those with the smallest eps."""


@dataclass(frozen=True)
class DistanceSearch(Analysis):
    """The smallest eps found for each test image."""

    def tables(self) -> tuple[str, ...]:
        return ("distances",)

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        records = trained.records
        found = distances(
            trained.model,
            trained.batches(),
            positive=trained.prepared.positive_index,
            threshold=trained.card.threshold,
            check=False,
            on_progress=lambda progress: on_progress(progress._replace(images=len(records))),
        )
        _save_images(trained, found)
        trained.write("distances", named_distances(found.rows, records, trained.prepared.classes))


def _save_images(trained: TrainedModel, found: Distances) -> None:
    is_shown = True if trained.prepared.positive is None else found.rows["label"] == trained.prepared.positive_index
    nearest = found.rows[is_shown & (found.rows["eps"] > 0)].sort_values("eps", kind="stable").index[:PICTURES]
    clean, _ = trained.images[list(nearest)]
    perturbation = found.images[list(nearest)] - clean
    with atomic(trained.folder.distance_images) as target, target.open("wb") as file:
        np.savez_compressed(
            file,
            rows=np.array(nearest),
            clean=(255 * clean).round().byte().numpy(),
            perturbation=perturbation.half().numpy(),
        )


def measure_distances(folder: Path, **options: Unpack[Options]) -> Path:
    """Write `distances.csv` into the results folder: a row per trial and test image, as `named_distances`.

    The folder of each trial gets the images of the positive class, or else of all classes, with the smallest eps, in
    `distances.npz`: `rows` (of the trial's `distances.csv`), `clean` and `perturbation`, each `(N, C, H, W)`. Trials
    that an earlier call has finished are not run again.

    Args:
        folder: results folder of a finished study.
        options: as for `attack_study`.

    Returns:
        The path of `distances.csv`.

    Raises:
        MirstError: no finished study, or other images.
    """
    return analyse(DistanceSearch(), folder, **options).distances
