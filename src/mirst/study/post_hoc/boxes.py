"""The models of a finished study with misplaced lesion boxes, on the test images of their folds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirst.errors import MirstError
from mirst.evaluation import Progress, evaluate_boxes
from mirst.evaluation.progress import OnProgress
from mirst.study.engines.base import Engine
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.base import Analysis, TrainedModel, analyse
from mirst.study.results import read_spec


@dataclass(frozen=True)
class MisplacedBoxes(Analysis):
    """Metrics of a model for every placement of the boxes."""

    def tables(self) -> tuple[str, ...]:
        return ("boxes",)

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


def misplace_boxes(
    folder: Path,
    *,
    data: Path | None = None,
    engine: Engine | None = None,
    on_trial: Callable[[str], None] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> Path:
    """Write `boxes.csv`: per trial the table of `evaluate_boxes`.

    Trials that an earlier call has finished are not run again.

    Args:
        folder, data, engine, on_trial, on_progress: as for `attack_study`.

    Returns:
        The path of `boxes.csv`.

    Raises:
        MirstError: no finished study, one of whole images, or other images.
    """
    if read_spec(StudyFolder(folder)).data.view == "whole":
        raise MirstError(f"{folder} is a study of whole images, so there is no box to misplace")
    study, _ = analyse(MisplacedBoxes(), folder, data, engine, on_trial, on_progress)
    return study.boxes
