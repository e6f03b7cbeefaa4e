"""What is measured of a model of a study, or of the ensemble of its folds, on the images of another data set."""

import json
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd

from mirst.evaluation import SuiteName, certify, evaluate_corruptions, named_certificates, named_rows, robustness
from mirst.files import write_text
from mirst.nn import load_model
from mirst.nn.device import default_device
from mirst.study.engines.base import Send, Work
from mirst.study.ensemble import combine
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.post_hoc.base import TrainedModel
from mirst.study.prepared import Prepared
from mirst.study.results import read_csv
from mirst.study.trial import Trial
from mirst.study.trial_outcomes import outcome_rows

CORRUPTIONS: Literal["corruptions"] = "corruptions"
ExternalSuite = Literal["standard", "adaptive", "corruptions"]
"""What a study can be measured with on another data set, beside its own attacks."""


@dataclass(frozen=True)
class FoldEnsemble(Trial):
    """The models of all folds of a defense and seed as one; its fold is the first."""

    @property
    def name(self) -> str:
        return f"{self.entry.title}-ensemble-seed{self.seed}"

    def key(self) -> dict[str, str | bool | int]:
        return {name: value for name, value in super().key().items() if name != "fold"}


@dataclass(frozen=True)
class Validation(Work[None]):
    """Rows of a model, or of the ensemble of the models of all folds, on the images of an external set."""

    name: str
    """Of the set."""

    @property
    @abstractmethod
    def table(self) -> str:
        """Name of the table of the rows, without suffix."""

    @abstractmethod
    def rows(self, trained: TrainedModel, send: Send) -> pd.DataFrame:
        """The rows of one model."""

    def settings(self) -> dict[str, Any]:
        """What the rows depend on beside model and images; a change of them runs the trial again."""
        return {}

    def end_marks(self) -> tuple[str, ...]:
        return (f"{self.table}.json",)

    def is_done(self, folder: TrialFolder) -> bool:
        """Whether an earlier call has finished the trial."""
        mark = folder.suite_record(self.table)
        return mark.exists() and bool(json.loads(mark.read_text(encoding="utf-8")) == self.settings())

    def inputs(self, trial: Trial, prepared: Prepared, study: StudyFolder) -> Iterable[Path]:
        return [study.trial(member.name).model for member in members_of(trial, prepared)]

    def __call__(self, trial: Trial, prepared: Prepared, study: StudyFolder, send: Send) -> None:
        paths, trusted = list(self.inputs(trial, prepared, study)), prepared.spec.model.name
        model, card = combine(paths, trusted) if len(paths) > 1 else load_model(paths[0], trusted)
        folder = study.external(self.name).trial(trial.name)
        trained = TrainedModel(trial, folder, prepared, model.to(default_device()), card)
        trained.write(self.table, self.rows(trained, send))
        write_text(folder.suite_record(self.table), json.dumps(self.settings()))


@dataclass(frozen=True)
class OwnAttacks(Validation):
    """No attack, and the study's own attacks."""

    table = "outcomes"

    def rows(self, trained: TrainedModel, send: Send) -> pd.DataFrame:
        images = trained.prepared.folds[trained.trial.fold].test
        return outcome_rows(trained.model, trained.prepared, images, trained.card.threshold, trained.trial.seed, send)


@dataclass(frozen=True)
class Suite(Validation):
    """A suite of attacks at several radii, without transferred attacks and checks for gradient masking."""

    suite: SuiteName
    eps: tuple[float, ...]

    @property
    def table(self) -> str:
        return self.suite

    def settings(self) -> dict[str, Any]:
        return {"eps": list(self.eps)}

    def rows(self, trained: TrainedModel, send: Send) -> pd.DataFrame:
        found = robustness(
            trained.model,
            list(trained.batches()),
            self.suite,
            self.eps,
            positive=trained.prepared.positive_index,
            threshold=trained.card.threshold,
            seed=trained.trial.seed,
            check=False,
            on_progress=send,
        )
        return named_rows(found.rows, trained.records, trained.prepared.classes)


@dataclass(frozen=True)
class Corrupted(Validation):
    """Metrics under every natural corruption and severity."""

    table = CORRUPTIONS

    def rows(self, trained: TrainedModel, send: Send) -> pd.DataFrame:
        return evaluate_corruptions(
            trained.model,
            trained.batches(),
            trained.prepared.classes,
            trained.prepared.positive,
            threshold=trained.card.threshold,
            seed=trained.trial.seed,
            check=False,
            on_progress=send,
        )


@dataclass(frozen=True)
class Certificates(Validation):
    """Certificates at the radii and by the method of those of the study."""

    eps: tuple[float, ...]
    method: str
    table = "certificates"

    @classmethod
    def as_in(cls, study: StudyFolder, name: str) -> Self:
        own = read_csv(study.certificates)
        return cls(name, tuple(sorted(own["eps"].unique().tolist())), str(own["method"].iloc[0]))

    def settings(self) -> dict[str, Any]:
        return {"eps": list(self.eps), "method": self.method}

    def rows(self, trained: TrainedModel, send: Send) -> pd.DataFrame:
        found = certify(
            trained.model,
            trained.batches(),
            self.eps,
            method=self.method,
            positive=trained.prepared.positive_index,
            threshold=trained.card.threshold,
            seed=trained.trial.seed,
            on_progress=send,
        )
        return named_certificates(found, trained.records, trained.prepared.classes)


def members_of(trial: Trial, prepared: Prepared) -> list[Trial]:
    """The trials whose models are evaluated as one."""
    if not isinstance(trial, FoldEnsemble):
        return [trial]
    return [Trial(trial.entry, fold, trial.seed) for fold in range(len(prepared.folds))]
