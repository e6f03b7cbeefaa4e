"""The models of a finished study under a suite of attacks, on their own test folds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from mirst.data import data_loader
from mirst.evaluation import Progress, SuiteName, named_rows, robustness
from mirst.files import write_csv, write_text
from mirst.nn import load_model
from mirst.nn.device import default_device
from mirst.study.engines.local import default_jobs, over_trials
from mirst.study.history import read_history
from mirst.study.prepared import prepare
from mirst.study.results import SUITES, open_folder, read_csv, read_results
from mirst.study.trial import (
    EVALUATION_BATCH,
    Prepared,
    Trial,
    all_trials,
    failure,
    trial_folder,
    write_trial_card,
)


def attack_study(
    folder: Path,
    suite: SuiteName,
    eps: Sequence[float],
    *,
    data: Path | None = None,
    jobs: int | None = None,
    on_trial: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str, Progress], None] = lambda trial, progress: None,
) -> Path:
    """Write `SUITE.csv` (outcome rows), `SUITE-costs.csv` and `SUITE-checks.csv` into the results folder.

    A model is attacked on the test images of its fold; the models of the first fold and seed are
    checked for gradient masking too. The source of transferred attacks is the same defense with the
    other pool, trained on the same fold with the same seed, where the study has it. Trials that an
    earlier call has finished with the same eps are not run again; those that failed have no model.

    Args:
        folder: results folder of a finished study.
        eps: radii, in units of the [0, 1] pixel range.
        data: where its images lie now; where they lay then, by default.
        jobs: trials at a time; as many as the cores allow, by default.
        on_trial: gets the name of each trial that has ended.
        on_progress: gets the name of a trial and how far the attack on its model has come.

    Returns:
        The path of `SUITE.csv`.

    Raises:
        MirstError: no finished study, other images, or an eps out of range.
    """
    results = read_results(folder)
    prepared = prepare(results.spec.with_data(data))
    open_folder(folder, prepared)
    trials = [trial for trial in all_trials(prepared.spec) if not failure(trial_folder(folder, trial))]
    pending = [
        trial
        for trial in sorted(trials, key=lambda trial: trial.seed)
        if _told(trial_folder(folder, trial), suite)["eps"] != list(eps)
    ]
    over_trials(
        pending,
        prepared,
        partial(_attack, folder, suite, tuple(eps)),
        default_jobs(prepared.spec, jobs),
        lambda message: on_progress(*message),
        lambda trial, _: on_trial(trial.name),
    )
    for kind in ("", "-costs"):
        tables = [pd.read_csv(trial_folder(folder, trial) / f"{suite}{kind}.csv") for trial in trials]
        write_csv(folder / f"{suite}{kind}.csv", pd.concat(tables))
    checks = [trial.key() | check for trial in trials for check in _told(trial_folder(folder, trial), suite)["checks"]]
    write_csv(folder / f"{suite}-checks.csv", pd.DataFrame(checks))
    return folder / f"{suite}.csv"


def _told(folder: Path, suite: SuiteName) -> dict[str, Any]:
    """Which eps a trial was attacked with, its checks, and what was left out; its file appears last."""
    path = folder / f"{suite}.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"eps": []}
    return told


def _attack(
    out: Path, suite: SuiteName, eps: tuple[float, ...], trial: Trial, prepared: Prepared, tell: Callable[[Any], None]
) -> None:
    folder, test = trial_folder(out, trial), prepared.folds[trial.fold].test
    model, card = load_model(folder / "model.safetensors", prepared.spec.model.name)
    device = default_device()
    twin = _twin(out, trial, prepared)
    found = robustness(
        model.to(device),
        list(data_loader(prepared.subset(test), EVALUATION_BATCH)),
        suite,
        eps,
        source=None if twin is None else twin.to(device),
        positive=prepared.positive_index,
        threshold=card.threshold,
        seed=trial.seed,
        check=trial.fold == 0 and trial.seed == prepared.spec.seeds[0],
        on_progress=lambda progress: tell((trial.name, progress)),
    )
    rows = named_rows(found.rows, [prepared.records[i] for i in test], prepared.classes)
    for table, kind in ((rows, ""), (found.costs, "-costs")):
        for place, (name, value) in enumerate(trial.key().items()):
            table.insert(place, name, value)
        write_csv(folder / f"{suite}{kind}.csv", table)
    _extend_card(folder, trial, prepared)
    told = {"eps": eps, "checks": [asdict(check) for check in found.checks], "left_out": found.left_out}
    write_text(folder / f"{suite}.json", json.dumps(told, indent=2))


def _extend_card(folder: Path, trial: Trial, prepared: Prepared) -> None:
    """The model's card with the suites that it was attacked with beside the study's own attacks."""
    suites = [read_csv(folder / f"{name}.csv") for name in SUITES if (folder / f"{name}.csv").exists()]
    strong = [rows[rows["attack"].isin(SUITES)] for rows in suites]
    rows = pd.concat([read_csv(folder / "outcomes.csv"), *strong]).drop_duplicates(["image", "source", "attack", "eps"])
    write_trial_card(trial, prepared, folder, read_history(folder), rows)


def _twin(out: Path, trial: Trial, prepared: Prepared) -> nn.Module | None:
    """The model of the same defense with the other pool, fold and seed alike, where the study has it."""
    for other in all_trials(prepared.spec):
        entry, path = other.entry, trial_folder(out, other) / "model.safetensors"
        same = (other.fold, other.seed, entry.defense) == (trial.fold, trial.seed, trial.entry.defense)
        if same and entry.drop_max != trial.entry.drop_max and path.exists():
            return load_model(path, prepared.spec.model.name)[0]
    return None
