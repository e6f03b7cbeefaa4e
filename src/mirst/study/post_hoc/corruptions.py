"""The models of a finished study under natural corruptions of the test images of their folds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirst.evaluation import Progress, evaluate_corruptions
from mirst.evaluation.progress import OnProgress
from mirst.study.engines.base import Engine
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.base import Analysis, TrainedModel, analyse


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


def corrupt_study(
    folder: Path,
    *,
    data: Path | None = None,
    engine: Engine | None = None,
    on_trial: Callable[[str], None] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> Path:
    """Write `corruptions.csv`: metrics per trial, corruption and severity.

    Trials that an earlier call has finished are not run again.

    Args:
        folder, data, engine, on_trial, on_progress: as for `attack_study`.

    Returns:
        The path of `corruptions.csv`.

    Raises:
        MirstError: no finished study, or other images.
    """
    study, _ = analyse(Corruptions(), folder, data, engine, on_trial, on_progress)
    return study.corruptions
