"""The models of a finished study, and the ensembles of its folds, on the images of another data set."""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

import pandas as pd

from mirst.errors import MirstError
from mirst.evaluation import SuiteName, certify, named_certificates, named_rows, robustness
from mirst.evaluation.suite_run import require_eps
from mirst.files import write_csv, write_text
from mirst.nn import MAX_MEMBERS, load_model, read_card
from mirst.nn.device import default_device
from mirst.study.collect import finished_trials, joined
from mirst.study.engines.base import Engine, Send, Work
from mirst.study.engines.local import Local
from mirst.study.ensemble import combine
from mirst.study.external_results import read_record
from mirst.study.external_set import ExternalSet, read_external
from mirst.study.identity import open_folder
from mirst.study.layout import ExternalFolder, StudyFolder, TrialFolder
from mirst.study.post_hoc.base import Options, TrainedModel, progress_events
from mirst.study.prepared import Prepared, prepare
from mirst.study.results import finished_study, read_csv, read_spec
from mirst.study.spec import SourceSpec
from mirst.study.trial import Trial, all_trials
from mirst.study.trial_outcomes import outcome_rows


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
        return [study.trial(member.name).model for member in _members(trial, prepared)]

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


def validate_study(
    folder: Path,
    source: SourceSpec,
    *,
    suite: SuiteName | None = None,
    eps: Sequence[float] = (5 / 255,),
    **options: Unpack[Options],
) -> Path:
    """Test every model of a finished study, and the ensemble of its folds' models, on another data set.

    Images that the models have seen are left out (`read_external`). Each model keeps its operating point. The images
    are classified clean and under the study's own attacks, and certified if the study is. `external/NAME`, with the
    name of the data set, gets `outcomes.csv` with the rows of the models, `ensembles-outcomes.csv` with those of the
    ensembles (for each defense and seed of which no trial failed), and `external.json`. What an earlier call has
    finished is not run again.

    Args:
        folder: results folder of a finished study.
        source: the other data set, new names of its classes, and its name.
        suite: also attack the models with this suite, at `eps`, into `SUITE.csv` and `ensembles-SUITE.csv`.
        eps: in units of the [0, 1] pixel range.
        options: as for `attack_study`; `data` is where the images of the study are now.

    Returns:
        The folder of the validation.

    Raises:
        MirstError: no finished study, other images of the study, or as `read_external`; a folder of the same name with
            the validation on other images; or an eps out of range.
    """
    if suite is not None:
        require_eps(eps)
    study = finished_study(folder)
    prepared = prepare(read_spec(study).with_data(options.get("data")))
    open_folder(study, prepared)
    first = finished_trials(study, all_trials(prepared.spec))[0]
    found = read_external(prepared, source, read_card(study.trial(first.name).model))
    suites = [] if suite is None else [Suite(found.name, suite, tuple(eps))]
    engine = options.get("engine") or Local()
    with engine.connected(prepared.spec):
        return validate_on(study, found, engine, options, suites)


def validate_on(
    study: StudyFolder,
    found: ExternalSet,
    engine: Engine,
    options: Options,
    more: Sequence[Validation] = (),
) -> Path:
    """Write the rows of every model of the study, and of the ensembles of its folds, on an external set.

    Args:
        engine: connected.
        more: what to measure beside the study's own attacks and certificates.

    Raises:
        MirstError: a folder of the same name with the validation on other images.
    """
    target, trials = study.external(found.name), finished_trials(study, all_trials(found.prepared.spec))
    _open(target, found)
    works: list[Validation] = [OwnAttacks(found.name), *more]
    if study.certificates.exists():
        works.append(Certificates.as_in(study, found.name))
    for work in works:
        _validate(work, study, trials, found.prepared, engine, options)
    return target.path


def _open(target: ExternalFolder, found: ExternalSet) -> None:
    """Make the folder that of the validation on this set; one that holds it already is fine.

    Raises:
        MirstError: it holds the validation on other images.
    """
    fingerprint, records = found.prepared.fingerprint, found.prepared.records
    if target.record.exists():
        if read_record(target)["fingerprint"] != fingerprint:
            raise MirstError(
                f"{target.path} contains the validation on other images of the same name; give this data set another "
                f"name with --source, or remove {target.path}"
            )
        return
    record = {
        "data": found.data,
        "labels": found.labels,
        "fingerprint": fingerprint,
        "images": len(records),
        "groups": len({record.group for record in records}),
        "per_class": Counter(record.label for record in records),
        "left_out": found.left_out,
        "notes": found.notes,
    }
    write_text(target.record, json.dumps(record, indent=2))


def _validate(
    work: Validation,
    study: StudyFolder,
    trials: Sequence[Trial],
    prepared: Prepared,
    engine: Engine,
    options: Options,
) -> None:
    target, ensembles = study.external(work.name), _ensembles(trials, prepared)
    everything = [*trials, *ensembles]
    pending = [trial for trial in everything if not work.is_done(target.trial(trial.name))]
    if pending:
        events = progress_events(options.get("on_trial"), options.get("on_progress"))
        engine.run(work, pending, prepared, study, events)
    if ensembles:
        write_csv(target.ensembles(work.table), joined(target, ensembles, work.table))
    write_csv(target.table(work.table), joined(target, trials, work.table))


def _ensembles(trials: Sequence[Trial], prepared: Prepared) -> list[FoldEnsemble]:
    """An ensemble for each defense and seed that has the models of all folds, if an ensemble can have so many."""
    found = [FoldEnsemble(trial.entry, 0, trial.seed) for trial in trials if trial.fold == 0]
    possible = 2 <= len(prepared.folds) <= MAX_MEMBERS
    return [one for one in found if possible and set(_members(one, prepared)) <= set(trials)]


def _members(trial: Trial, prepared: Prepared) -> list[Trial]:
    """The trials whose models are evaluated as one."""
    if not isinstance(trial, FoldEnsemble):
        return [trial]
    return [Trial(trial.entry, fold, trial.seed) for fold in range(len(prepared.folds))]
