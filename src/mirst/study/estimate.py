"""How long a study takes and how much memory, before it is run."""

import heapq
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mirst.defenses import Defense
from mirst.study.cost import ALIKE, Cost, Measure, clean_epochs, selection_epochs
from mirst.study.engines.base import Engine, Events
from mirst.study.engines.local import Local
from mirst.study.engines.memory import library_memory, peak_memory
from mirst.study.identity import holds_study, require_no_ensembles
from mirst.study.layout import StudyFolder
from mirst.study.post_hoc.certificates import Certification
from mirst.study.prepared import Prepared, prepare, training_shares
from mirst.study.reuse import reusable_trials
from mirst.study.run import pending_trials
from mirst.study.spec import StudySpec, TrialTraining
from mirst.study.trial import Trial, all_trials


@dataclass(frozen=True)
class Sizes:
    """Images of one fold's trials."""

    train: int
    val: int
    test: int


@dataclass(frozen=True)
class ColumnEstimate:
    """One defense.

    >>> ColumnEstimate("ce", trials=5, trial_seconds=60.0, epoch_seconds=1.2, memory=10**9, gpu_memory=0).trials
    5
    """

    title: str
    trials: int
    """To run."""
    trial_seconds: float
    """Of one trial, the mean over them."""
    epoch_seconds: float
    """Of one epoch of training at full eps, validation not counted."""
    memory: int
    """Peak of a worker, in bytes."""
    gpu_memory: int


@dataclass(frozen=True)
class Estimate:
    """A whole study.

    >>> ce = ColumnEstimate("ce", trials=5, trial_seconds=60.0, epoch_seconds=1.2, memory=10**9, gpu_memory=0)
    >>> Estimate([ce], done=0, jobs=2, seconds=180.0, memory=2 * 10**9, gpu_memory=0).trials
    5
    """

    columns: list[ColumnEstimate]
    """Of the defenses that have trials to run."""
    done: int
    """Trials that the results folder holds, or that are reused."""
    jobs: int
    seconds: float
    """From the command to the last trial's end; the report is drawn after it."""
    memory: int
    """Peak of all processes together, in bytes; what they share of libraries is counted once."""
    gpu_memory: int
    remarks: tuple[str, ...] = ()
    """What one should know of the data, in sentences."""

    @property
    def trials(self) -> int:
        """To run."""
        return sum(column.trials for column in self.columns)


def estimate_study(
    spec: StudySpec,
    out: Path,
    *,
    engine: Engine | None = None,
    on_measure: Callable[[Sequence[str]], None] = lambda _: None,
) -> Estimate:
    """Measure the pieces of every defense's trials in workers like those of `run_study`, and put them together.

    With the key `certify`, certificates belong to a trial; one that lacks nothing else counts as a trial to run.

    Writes nothing into `out`. A trial that was cut off counts as a whole one, a training that will
    diverge as one that ends well.

    Args:
        engine: where the trials would run, as in `run_study`.
        on_measure: gets the titles of the defenses that are about to be measured.

    Raises:
        MirstError: whatever `run_study` would raise before its first epoch.
    """
    engine = engine or Local()
    require_no_ensembles(StudyFolder(out))
    with engine.connected(spec):
        return _estimate(spec, StudyFolder(out), engine, on_measure)


def _estimate(
    spec: StudySpec, study: StudyFolder, engine: Engine, on_measure: Callable[[Sequence[str]], None]
) -> Estimate:
    jobs, begin = engine.parallel(spec), time.monotonic()
    prepared = prepare(spec)
    preparing = time.monotonic() - begin
    holds_study(study, prepared)
    reused = reusable_trials(study, prepared)
    pending = [trial for trial in pending_trials(study, spec) if trial not in reused]
    done, uncertified = len(all_trials(spec)) - len(pending), _uncertified(study, spec)
    to_run = [*pending, *(trial for trial in uncertified if trial not in pending)]
    if not to_run:
        return Estimate([], done, jobs, preparing, peak_memory(), 0, tuple(prepared.audit.remarks()))
    workers = min(jobs, len(to_run))
    costs, start = _measured(to_run, prepared, study, engine, workers, on_measure)
    sizes = {trial.fold: _sizes(prepared, trial.fold) for trial in to_run}
    seconds = {trial: sizes[trial.fold].test * costs[trial.entry.title].certificate for trial in to_run}
    for trial in pending:
        cost, size = costs[trial.entry.title], sizes[trial.fold]
        seconds[trial] += trial_seconds(cost, trial.entry.defense, spec.training, size)
    columns = [
        _column(cost, sizes, {t: s for t, s in seconds.items() if t.entry.title == title})
        for title, cost in costs.items()
    ]
    return Estimate(
        columns=columns,
        done=done,
        jobs=jobs,
        seconds=start + preparing + makespan(list(seconds.values()), workers, start),  # this process started too
        memory=peak_memory() + workers * (max(column.memory for column in columns) - library_memory()),
        gpu_memory=workers * max(column.gpu_memory for column in columns),
        remarks=tuple(prepared.audit.remarks()),
    )


def _uncertified(study: StudyFolder, spec: StudySpec) -> list[Trial]:
    """The trials that get certificates in the run."""
    certification = Certification(spec.certify, "interval")
    trials = [trial for trial in all_trials(spec) if spec.certify and not study.trial(trial.name).failure()]
    return [trial for trial in trials if not certification.is_done(study.trial(trial.name))]


def trial_seconds(cost: Cost, defense: Defense, settings: TrialTraining, sizes: Sizes) -> float:
    """Of one trial, from building its model to its last outcome row; without certificates."""
    clean = clean_epochs(settings, defense)
    training = clean * cost.clean_step + (settings.epochs - clean) * cost.step
    validation = settings.epochs * cost.clean_pass + selection_epochs(settings) * cost.selection
    threshold = (sizes.val or sizes.train) * cost.clean_pass
    if settings.operating_point.robust:
        threshold += sizes.val * cost.selection
    return (
        cost.setup
        + sizes.train * training
        + sizes.val * validation
        + settings.epochs * cost.checkpoint
        + threshold
        + sizes.test * cost.evaluation
    )


def makespan(seconds: Sequence[float], workers: int, start: float) -> float:
    """When the last trial ends, if each worker, ready at `start`, takes the next one whenever it is free."""
    free = [start] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def _measured(
    pending: Sequence[Trial],
    prepared: Prepared,
    study: StudyFolder,
    engine: Engine,
    workers: int,
    on_measure: Callable[[Sequence[str]], None],
) -> tuple[dict[str, Cost], float]:
    """The cost of each defense, by title, and the seconds until a worker is ready.

    Each defense is measured by all workers at about the same time, so that they hinder one another
    as in the run.
    """
    firsts: dict[str, Trial] = {}
    for trial in pending:
        firsts.setdefault(trial.entry.title, trial)
    on_measure(list(firsts))
    costs: dict[str, list[Cost]] = {title: [] for title in firsts}
    begin = time.time()
    events = Events[Cost](on_end=lambda trial, cost: costs[trial.entry.title].append(cost))
    engine.run(Measure(), [trial for trial in firsts.values() for _ in range(workers)], prepared, study, events)
    everything = sorted((cost for several in costs.values() for cost in several), key=lambda cost: -cost.began)
    starters = {cost.worker: cost for cost in everything}.values()  # the first of each worker
    start = statistics.mean(cost.began - begin + cost.first for cost in starters)
    pooled = {
        drop_max: [
            cost for title, several in costs.items() if firsts[title].entry.drop_max == drop_max for cost in several
        ]
        for drop_max in (False, True)
    }
    return {title: _median(several, pooled[firsts[title].entry.drop_max]) for title, several in costs.items()}, start


def _median(costs: Sequence[Cost], same_model: Sequence[Cost]) -> Cost:
    """The median of every number; of those in `ALIKE`, over all defenses on the same model."""
    own, alike = [asdict(cost) for cost in costs], [asdict(cost) for cost in same_model]
    numbers = [name for name, value in own[0].items() if not isinstance(value, str)]
    medians = {name: statistics.median(one[name] for one in (alike if name in ALIKE else own)) for name in numbers}
    return replace(costs[0], **medians)


def _sizes(prepared: Prepared, fold: int) -> Sizes:
    train, val = training_shares(prepared, prepared.folds[fold].train)
    return Sizes(len(train), len(val), len(prepared.folds[fold].test))


def _column(cost: Cost, sizes: dict[int, Sizes], seconds: dict[Trial, float]) -> ColumnEstimate:
    first, *_ = seconds
    return ColumnEstimate(
        title=first.entry.title,
        trials=len(seconds),
        trial_seconds=statistics.mean(seconds.values()),
        epoch_seconds=statistics.mean(sizes[trial.fold].train for trial in seconds) * cost.step,
        memory=cost.memory,
        gpu_memory=cost.gpu_memory,
    )
