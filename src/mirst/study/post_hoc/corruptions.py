"""The models of a finished study under natural corruptions of the test images of their folds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from mirst.evaluation import evaluate_corruptions
from mirst.evaluation.progress import OnProgress
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse


@dataclass(frozen=True)
class Corruptions(Analysis):
    """Metrics of a model under every corruption and severity."""

    def tables(self) -> tuple[str, ...]:
        return ("corruptions",)

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        table = evaluate_corruptions(
            trained.model,
            trained.batches(),
            trained.prepared.classes,
            trained.prepared.positive,
            threshold=trained.card.threshold,
            seed=trained.trial.seed,
            check=False,
            on_progress=on_progress,
        )
        trained.write("corruptions", table)


def corrupt_study(folder: Path, **options: Unpack[Options]) -> Path:
    """Write `corruptions.csv`: metrics per trial, corruption and severity.

    Trials that an earlier call has finished are not run again.

    Args:
        folder: results folder of a finished study.
        options: as for `attack_study`.

    Returns:
        The path of `corruptions.csv`.

    Raises:
        MirstError: no finished study, or other images.
    """
    return analyse(Corruptions(), folder, **options).corruptions
