"""The models of a finished study under natural corruptions of the test images of their folds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from mirst.evaluation import corruption_set, evaluate_corruptions
from mirst.evaluation.corruptions import set_of
from mirst.evaluation.progress import OnProgress
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse
from mirst.study.results import finished_study, read_csv, read_spec


@dataclass(frozen=True)
class Corruptions(Analysis):
    """Metrics of a model under every corruption and severity."""

    modality: str
    """Whose corruptions."""

    def is_done(self, folder: TrialFolder) -> bool:
        """Whether an earlier call has finished the trial, with the corruptions of this modality."""
        return super().is_done(folder) and set_of(read_csv(folder.corruptions)["corruption"]) == self.modality

    def tables(self) -> tuple[str, ...]:
        return ("corruptions",)

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        table = evaluate_corruptions(
            trained.model,
            trained.batches(),
            trained.prepared.classes,
            trained.prepared.positive,
            modality=self.modality,
            threshold=trained.card.threshold,
            seed=trained.trial.seed,
            check=False,
            on_progress=on_progress,
        )
        trained.write("corruptions", table)


def corrupt_study(folder: Path, modality: str | None = None, **options: Unpack[Options]) -> Path:
    """Write `corruptions.csv`: metrics per trial, corruption and severity.

    Trials that an earlier call has finished with the corruptions of the same modality are not run again.

    Args:
        folder: results folder of a finished study.
        modality: whose corruptions; by default, those of the study, as in `corruption_set`.
        options: as for `attack_study`.

    Returns:
        The path of `corruptions.csv`.

    Raises:
        MirstError: no finished study, other images, or an unknown modality.
    """
    data = read_spec(finished_study(folder)).data
    chosen = corruption_set(modality or data.modality, data.channels)
    return analyse(Corruptions(chosen), folder, **options).corruptions
