"""Trials in worker processes on one machine."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from mirst.errors import MirstError
from mirst.nn import LoadedBackbone
from mirst.study.prepare import prepare
from mirst.study.results import collect, open_folder
from mirst.study.reuse import reuse_trials
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, Trial, all_trials, is_done, run_trial, trial_folder
from mirst.training import Epoch


@dataclass(frozen=True)
class Step:
    """What a running study tells: an epoch of a trial, or the trial's end (`epoch` is `None`)."""

    trial: str
    epoch: Epoch | None
    diverged: str | None = None
    """How the training diverged, if it did."""


@dataclass(frozen=True)
class Plan:
    """What a study is about to do."""

    pending: dict[str, str]
    """Trials to run, each with the title of its defense."""
    done: int
    """Trials that are finished: by an earlier run, or reused."""
    reused: int
    """Of those, how many came from other studies just now."""
    epochs: int
    """Of each trial."""
    jobs: int
    weights: LoadedBackbone | None
    """What every training starts from, unless from random weights."""


def run_study(
    spec: StudySpec,
    out: Path,
    *,
    jobs: int | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> None:
    """Run every trial of `spec` that `out` does not hold yet, then gather the rows in `out`.

    Each trial runs in a process of its own thread count, so `jobs` changes no number; a run that
    was killed goes on where it stopped and ends with the same numbers. A trial whose training
    diverges ends alone, and is told apart in the results.

    Args:
        jobs: trials at a time; as many as the cores allow, or one on a GPU, by default.

    Raises:
        MirstError: data that cannot be read or split, a setting that does not fit them, an `out`
            that holds another study, or a study of which every trial diverged.
    """
    if jobs is not None and jobs < 1:
        raise MirstError(f"--jobs is {jobs}; it must be at least 1")
    prepared = prepare(spec)
    open_folder(out, prepared)
    reused = reuse_trials(out, prepared)
    trials = all_trials(spec)
    pending = [trial for trial in trials if not is_done(trial_folder(out, trial))]
    pending.sort(key=lambda trial: trial.fold)  # every defense early: the time left is known sooner
    jobs = jobs or _default_jobs(spec)
    if on_plan is not None:
        titles = {trial.name: trial.entry.title for trial in pending}
        on_plan(Plan(titles, len(trials) - len(pending), reused, spec.training.epochs, jobs, prepared.weights))
    if pending:
        _run_pending(pending, prepared, out, min(jobs, len(pending)), on_step or (lambda _: None))
    collect(out, {trial_folder(out, trial): trial for trial in trials}, prepared)


def _default_jobs(spec: StudySpec) -> int:
    if torch.cuda.is_available():
        return 1
    return max(1, len(os.sched_getaffinity(0)) // spec.training.threads)


def _run_pending(
    pending: Sequence[Trial], prepared: Prepared, out: Path, jobs: int, on_step: Callable[[Step], None]
) -> None:
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_start_worker, initargs=(prepared, messages)
    ) as pool:
        with _interrupts_held():  # or those that start right now would die of them, with a traceback
            running: dict[Future[str | None], Trial] = {
                pool.submit(_work, trial, trial_folder(out, trial)): trial for trial in pending
            }
        try:
            while running:
                done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                _forward(messages, on_step)
                for future in done:
                    trial = running.pop(future)
                    on_step(Step(trial.name, None, _ending(trial, future)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Interrupts wait until the end of the block; a process that is started in it holds them for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forward(messages: Any, on_step: Callable[[Step], None]) -> None:
    while True:
        try:
            on_step(messages.get_nowait())
        except queue.Empty:
            return


def _ending(trial: Trial, future: Future[str | None]) -> str | None:
    try:
        return future.result()
    except MirstError as error:
        raise MirstError(f"trial {trial.name}: {error}") from error
    except BrokenProcessPool as error:
        raise MirstError(
            "a worker was killed, perhaps for memory; the same command goes on, --jobs 1 needs less"
        ) from error


_shared: tuple[Prepared, Any]
"""Of a worker process: what it was started with."""


def _start_worker(prepared: Prepared, messages: Any) -> None:
    global _shared
    _shared = (prepared, messages)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the study's to handle
    torch.set_num_threads(prepared.spec.training.threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose study was killed must not go on writing beside the resumed one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _work(trial: Trial, folder: Path) -> str | None:
    prepared, messages = _shared
    return run_trial(trial, prepared, folder, lambda epoch: messages.put(Step(trial.name, epoch)))
