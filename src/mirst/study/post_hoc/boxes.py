"""The models of a finished study with misplaced lesion boxes, on the test images of their folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from mirst.errors import MirstError
from mirst.evaluation import evaluate_boxes
from mirst.evaluation.progress import OnProgress
from mirst.files import write_csv
from mirst.study.baselines import misplaced_rows
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse
from mirst.study.prepared import Prepared
from mirst.study.results import read_spec
from mirst.study.trial import Trial


@dataclass(frozen=True)
class MisplacedBoxes(Analysis):
    """Metrics of a model for every placement of the boxes."""

    def tables(self) -> tuple[str, ...]:
        return ("boxes",)

    def finish(self, study: StudyFolder, trials: Sequence[Trial], prepared: Prepared, on_progress: OnProgress) -> None:
        if not study.boxes_baselines.exists():
            assert prepared.box_features is not None  # a study of lesions has them
            write_csv(study.boxes_baselines, misplaced_rows(prepared, prepared.box_features, on_progress))

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        table = evaluate_boxes(
            trained.model,
            trained.images,
            trained.prepared.classes,
            trained.prepared.positive,
            threshold=trained.card.threshold,
            on_progress=on_progress,
        )
        trained.write("boxes", table)


def misplace_boxes(folder: Path, **options: Unpack[Options]) -> Path:
    """Write `boxes.csv` and `boxes-baselines.csv`: the table of `evaluate_boxes` per trial, and per baseline and fold.

    Trials that an earlier call has finished are not run again.

    Args:
        folder: results folder of a finished study.
        options: as for `attack_study`.

    Returns:
        The path of `boxes.csv`.

    Raises:
        MirstError: no finished study, one of whole images, or other images.
    """
    if read_spec(StudyFolder(folder)).data.view == "whole":
        raise MirstError(f"{folder} is a study of whole images, so there is no box to misplace")
    return analyse(MisplacedBoxes(), folder, **options).boxes
