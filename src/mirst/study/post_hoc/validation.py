"""The models of a finished study, and the ensembles of its folds, on the images of another data set."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from mirst.errors import MirstError
from mirst.evaluation.suite_run import require_eps
from mirst.files import write_csv, write_text
from mirst.nn import MAX_MEMBERS, read_card
from mirst.study.baselines import write_baselines_on
from mirst.study.collect import finished_trials, joined
from mirst.study.engines.base import Engine
from mirst.study.engines.local import Local
from mirst.study.external_results import read_record
from mirst.study.external_set import ExternalSet, read_external
from mirst.study.identity import open_folder
from mirst.study.layout import ExternalFolder, StudyFolder
from mirst.study.post_hoc.base import Options, progress_events
from mirst.study.post_hoc.validation_works import (
    CORRUPTIONS,
    Certificates,
    Corrupted,
    ExternalSuite,
    FoldEnsemble,
    OwnAttacks,
    Suite,
    Validation,
    members_of,
)
from mirst.study.prepared import Prepared, prepare
from mirst.study.results import finished_study, read_spec
from mirst.study.spec_sections import SourceSpec
from mirst.study.trial import Trial, all_trials


def validate_study(
    folder: Path,
    source: SourceSpec,
    *,
    suite: ExternalSuite | None = None,
    eps: Sequence[float] = (5 / 255,),
    **options: Unpack[Options],
) -> Path:
    """Test every model of a finished study, and the ensemble of its folds' models, on another data set.

    Images that the models have seen are left out (`read_external`). Each model keeps its operating point. The images
    are classified clean and under the study's own attacks, and certified if the study is. `external/NAME`, with the
    name of the data set, gets `outcomes.csv` with the rows of the models, `ensembles-outcomes.csv` with those of the
    ensembles (for each defense and seed of which no trial failed), `external.json`, and in a study of lesions
    `baselines.csv` with the rows of its baselines. What an earlier call has
    finished is not run again.

    Args:
        folder: results folder of a finished study.
        source: the other data set, new names of its classes, and its name.
        suite: also attack the models with this suite, at `eps`, or measure them under natural corruptions, into
            `SUITE.csv` and `ensembles-SUITE.csv`.
        eps: in units of the [0, 1] pixel range.
        options: as for `attack_study`; `data` is where the images of the study are now.

    Returns:
        The folder of the validation.

    Raises:
        MirstError: no finished study, other images of the study, or as `read_external`; a folder of the same name with
            the validation on other images; or an eps out of range.
    """
    if suite not in (None, CORRUPTIONS):
        require_eps(eps)
    study = finished_study(folder)
    prepared = prepare(read_spec(study).with_data(options.get("data")))
    open_folder(study, prepared)
    first = finished_trials(study, all_trials(prepared.spec))[0]
    found = read_external(prepared, source, read_card(study.trial(first.name).model))
    more: list[Validation] = []
    if suite == CORRUPTIONS:
        more = [Corrupted(found.name)]
    elif suite is not None:
        more = [Suite(found.name, suite, tuple(eps))]
    engine = options.get("engine") or Local()
    with engine.connected(prepared.spec):
        return validate_on(study, prepared, found, engine, options, more)


def validate_on(
    study: StudyFolder,
    prepared: Prepared,
    found: ExternalSet,
    engine: Engine,
    options: Options,
    more: Sequence[Validation] = (),
) -> Path:
    """Write the rows of the models of the study, of the ensembles of its folds and of its baselines on an external set.

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
    write_baselines_on(target, prepared, found.prepared)
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
    return [one for one in found if possible and set(members_of(one, prepared)) <= set(trials)]
