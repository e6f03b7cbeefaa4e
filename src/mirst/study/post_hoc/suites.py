"""The models of a finished study under a suite of attacks, on the test images of their folds."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
from torch import nn

from mirst.evaluation import Check, SuiteName, named_rows, robustness
from mirst.evaluation.progress import OnProgress
from mirst.evaluation.worst_score import require_positive
from mirst.files import write_csv, write_text
from mirst.nn import load_model
from mirst.nn.device import default_device
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse
from mirst.study.post_hoc.card import card_inputs, extend_card
from mirst.study.post_hoc.settled_checks import settled_by_certificates
from mirst.study.prepared import Prepared
from mirst.study.results import finished_study, read_run
from mirst.study.trial import Trial, all_trials

AUC = "auc"
"""In the record of a trial: its rows have the worst scores."""


@dataclass(frozen=True)
class SuiteRun(Analysis):
    """A suite of attacks at several radii."""

    suite: SuiteName
    eps: tuple[float, ...]
    auc: bool = False

    def tables(self) -> tuple[str, ...]:
        return (self.suite, f"{self.suite}-costs")

    def end_marks(self) -> tuple[str, ...]:
        return (f"{self.suite}.json",)

    def is_done(self, folder: TrialFolder) -> bool:
        record = _record(folder, self.suite)
        return bool(record["eps"] == list(self.eps)) and (not self.auc or AUC in record)

    def inputs(self, trial: Trial, prepared: Prepared, study: StudyFolder) -> Iterable[Path]:
        folder, twin = study.trial(trial.name), twin_of(trial, prepared)
        yield from (folder.model, *card_inputs(folder))
        if twin is not None:
            yield study.trial(twin.name).model

    def finish(self, study: StudyFolder, trials: Sequence[Trial], prepared: Prepared, on_progress: OnProgress) -> None:
        write_checks(study, trials, self.suite)

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        trial, prepared = trained.trial, trained.prepared
        found = robustness(
            trained.model,
            list(trained.batches()),
            self.suite,
            self.eps,
            source=_source(trained, study),
            positive=prepared.positive_index,
            threshold=trained.card.threshold,
            seed=trial.seed,
            check=trial.fold == 0 and trial.seed == prepared.spec.seeds[0],
            auc=self.auc,
            on_progress=on_progress,
        )
        trained.write(self.suite, named_rows(found.rows, trained.records, prepared.classes))
        trained.write(f"{self.suite}-costs", found.costs)
        extend_card(trained)
        record: dict[str, Any] = {
            "eps": self.eps,
            "checks": [asdict(check) for check in found.checks],
            "left_out": found.left_out,
        }
        record |= {AUC: True} if self.auc else {}
        write_text(trained.folder.suite_record(self.suite), json.dumps(record, indent=2))


def attack_study(
    folder: Path,
    suite: SuiteName,
    eps: Sequence[float],
    *,
    auc: bool = False,
    **options: Unpack[Options],
) -> Path:
    """Write `SUITE.csv` (outcome rows), `SUITE-costs.csv` and `SUITE-checks.csv` into the results folder.

    A model is attacked on the test images of its fold. The models of the first fold and seed are also
    checked for gradient masking. The source of transferred attacks is the same defense with the
    other pool, trained on the same fold with the same seed, if the study has it. Trials that an
    earlier call has finished with the same eps, and with `auc` if this call has it, are not run again. Failed trials
    have no model.

    Args:
        folder: results folder of a finished study.
        eps: radii, in units of the [0, 1] pixel range.
        auc: also measure the worst scores, for the AUC under attack, as in `mirst.evaluation.robustness`.
        options: `data`, where its images are now, by default where they were then; `engine`, where the trials run, by
            default processes on this machine; `on_trial`, which gets the name of each trial that has ended; and
            `on_progress`, which gets the name of a trial and the `Progress` of the work on its model.

    Returns:
        The path of `SUITE.csv`.

    Raises:
        MirstError: no finished study, other images, an eps out of range, or `auc` without a positive class.
    """
    if auc:
        require_positive(read_run(finished_study(folder))["data"]["positive"])
    return analyse(SuiteRun(suite, tuple(eps), auc), folder, **options).table(suite)


def write_checks(study: StudyFolder, trials: Sequence[Trial], suite: str) -> None:
    """Write `SUITE-checks.csv`. Certificates settle checks, whether they are older or younger than the suite."""
    lines = []
    for trial in trials:
        folder = study.trial(trial.name)
        checks = [Check(**check) for check in _record(folder, suite).get("checks", ())]
        lines += [trial.key() | asdict(check) for check in settled_by_certificates(checks, folder, suite)]
    write_csv(study.checks(suite), pd.DataFrame(lines))


def _record(folder: TrialFolder, suite: str) -> dict[str, Any]:
    """The radii that a model was attacked with, its checks, and the attacks that were left out."""
    path = folder.suite_record(suite)
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"eps": []}
    return record


def twin_of(trial: Trial, prepared: Prepared) -> Trial | None:
    """The trial of the same defense, fold and seed with the other pool, if the study has it."""
    key = (trial.fold, trial.seed, trial.entry.defense)
    for other in all_trials(prepared.spec):
        same = (other.fold, other.seed, other.entry.defense) == key
        if same and other.entry.drop_max != trial.entry.drop_max:
            return other
    return None


def _source(trained: TrainedModel, study: StudyFolder) -> nn.Module | None:
    """The model whose attacks are transferred."""
    twin = twin_of(trained.trial, trained.prepared)
    path = None if twin is None else study.trial(twin.name).model
    if path is None or not path.exists():
        return None
    return load_model(path, trained.prepared.spec.model.name)[0].to(default_device())
