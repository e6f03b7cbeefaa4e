"""Ensembles of the seeds of a finished study, attacked as its models were, in a results folder of their own."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirst.errors import MirstError
from mirst.evaluation import Progress
from mirst.evaluation.progress import OnProgress
from mirst.files import write_text
from mirst.nn import MAX_MEMBERS, Ensemble, ModelCard, load_model, save_model
from mirst.study.calibrate import calibrated
from mirst.study.collect import collect
from mirst.study.engines.base import Engine
from mirst.study.engines.local import Local
from mirst.study.identity import holds_study, open_folder, require_ensembles
from mirst.study.layout import StudyFolder, TrialFolder
from mirst.study.lock import locked
from mirst.study.origin import Origin
from mirst.study.post_hoc.base import Analysis, TrainedModel, progress_events
from mirst.study.prepared import Prepared, conditions, prepare
from mirst.study.results import Results, read_results
from mirst.study.spec import StudySpec
from mirst.study.trial import Trial, all_trials
from mirst.study.trial_outcomes import outcome_rows, save_examples, write_trial_card


@dataclass(frozen=True)
class AttackEnsemble(Analysis):
    """The study's own attacks on an ensemble, on the test images of its fold."""

    def tables(self) -> tuple[str, ...]:
        return ("outcomes",)

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        trial, prepared, folder = trained.trial, trained.prepared, trained.folder
        test = prepared.folds[trial.fold].test
        rows = outcome_rows(trained.model, prepared, test, trained.card.threshold, trial.seed, on_progress)
        if trial.fold == 0:
            save_examples(folder, trained.model, prepared, test, rows)
        write_trial_card(trial, prepared, folder, None, trial.with_key(rows))
        trained.write("outcomes", rows)


def ensemble_study(
    folder: Path,
    out: Path,
    *,
    data: Path | None = None,
    engine: Engine | None = None,
    on_trial: Callable[[str], None] | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> None:
    """Combine the models of all seeds of each defense and fold to an `Ensemble`, and attack it on its test fold.

    `out` becomes the results folder of a study whose trials are the ensembles. Their seed is the first of the study;
    `run.json` has an entry `ensemble` with the study and all seeds. Ensembles that an earlier call has finished are not
    attacked again. If the trial of a seed failed, the ensemble has failed too: one of fewer members is another method.

    Args:
        folder: results folder of a finished study of several seeds.
        data, engine, on_trial, on_progress: as for `attack_study`.

    Raises:
        MirstError: no finished study, one of a single seed, of more than `MAX_MEMBERS`, or of ensembles; other images;
            an `out` with another study; or every ensemble has failed.
    """
    results, engine, target = read_results(folder), engine or Local(), StudyFolder(out)
    _require_seeds(results)
    prepared = prepare(results.spec.with_data(data))
    holds_study(results.files, prepared)
    prepared = replace(prepared, spec=_with_one_seed(prepared.spec))
    origin = Origin(str(results.folder.resolve()), str(results.run.get("started")), results.spec.seeds)
    require_ensembles(target, origin)
    holds_study(target, prepared)
    trials = all_trials(prepared.spec)
    with locked(out):
        open_folder(target, prepared, origin)
        for trial in trials:
            _combine(results, trial, target.trial(trial.name), prepared)
        pending = [trial for trial in trials if not _has_ended(target.trial(trial.name))]
        if pending:
            with engine.connected(prepared.spec):
                engine.run(AttackEnsemble(), pending, prepared, target, progress_events(on_trial, on_progress))
        collect(target, trials, prepared)


def _require_seeds(results: Results) -> None:
    count, folder = len(results.spec.seeds), results.folder
    if results.origin is not None:
        raise MirstError(f"{folder} contains ensembles already; give the study of their members, {results.origin.of}")
    if count == 1:
        raise MirstError(
            f"{folder} has one seed, and an ensemble needs several; add seeds, as in seeds: [0, 1], and run the study "
            f"into another folder with reuse: [{folder}]"
        )
    if count > MAX_MEMBERS:
        raise MirstError(f"{folder} has {count} seeds; an ensemble has at most {MAX_MEMBERS} members")


def _with_one_seed(spec: StudySpec) -> StudySpec:
    return spec.model_copy(update={"seeds": spec.seeds[:1], "out": None, "reuse": ()})


def _has_ended(folder: TrialFolder) -> bool:
    return folder.is_done() or folder.failure() is not None


def _combine(results: Results, trial: Trial, folder: TrialFolder, prepared: Prepared) -> None:
    """Write the ensemble of a defense and fold, or why there is none."""
    if folder.is_done():
        return
    folder.killed.unlink(missing_ok=True)  # the study may have trained the model since
    members = [results.files.trial(replace(trial, seed=seed).name) for seed in results.spec.seeds]
    for seed, member in zip(results.spec.seeds, members, strict=True):
        for reason, mark in ((member.divergence(), folder.diverged), (member.killing(), folder.killed)):
            if reason is not None:
                write_text(mark, f"its member of seed {seed} has no model: {reason}")
                return
    ensemble, card = combine([member.model for member in members], results.spec.model.name)
    with conditions(prepared.spec):
        calibration = calibrated(ensemble, prepared, prepared.folds[trial.fold].train, trial.seed)
    save_model(folder.model, ensemble, replace(card, calibration=calibration))


def combine(members: Sequence[Path], trusted: str) -> tuple[Ensemble, ModelCard]:
    """The ensemble of several checkpoints with its card; its operating point is 0, and it is not calibrated.

    Args:
        trusted: the factory that the checkpoints may use, as for `load_model`.

    Raises:
        MirstError: a checkpoint that cannot be read, or as `Ensemble`.
    """
    loaded = [load_model(member, trusted) for member in members]
    cards = [card for _, card in loaded]
    models = [copy.deepcopy(model) for model, _ in loaded]  # a factory may return the same object each time
    thresholds = [card.threshold for card in cards] if len(cards[0].classes) == 2 else None
    ensemble = Ensemble(models, thresholds, cards[0].positive_index)
    return ensemble, replace(cards[0], members=len(members), threshold=0.0, certified=(), calibration=None)
