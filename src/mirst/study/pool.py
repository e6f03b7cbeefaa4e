"""Work on many trials at a time, in worker processes on one machine."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import Any, TypeVar

import torch

from mirst.errors import MirstError
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, Trial, conditions

Result = TypeVar("Result")
Work = Callable[[Trial, Prepared, Callable[[Any], None]], Result]
"""What a worker does with a trial: a function that can be pickled. It may send messages and returns what came of it."""


def default_jobs(spec: StudySpec, jobs: int | None) -> int:
    """`jobs` where given; else as many as the cores allow, or one on a GPU.

    Raises:
        MirstError: `jobs` is below 1.
    """
    if jobs is not None:
        if jobs < 1:
            raise MirstError(f"--jobs is {jobs}; it must be at least 1")
        return jobs
    if torch.cuda.is_available():
        return 1
    return max(1, len(os.sched_getaffinity(0)) // spec.training.threads)


def over_trials(
    trials: Sequence[Trial],
    prepared: Prepared,
    work: Work[Result],
    jobs: int,
    on_message: Callable[[Any], None],
    on_end: Callable[[Trial, Result], None],
) -> None:
    """Do `work` on every trial, `jobs` at a time, each in a process of its own thread count.

    Args:
        on_message: gets what `work` sends.
        on_end: gets each trial with what `work` returned.

    Raises:
        MirstError: as `work`, with the trial's name; or a worker that was killed.
    """
    if not trials:
        return
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    with ProcessPoolExecutor(
        min(jobs, len(trials)), mp_context=context, initializer=_start_worker, initargs=(prepared, messages)
    ) as pool:
        with _interrupts_held():  # or those that start right now would die of them, with a traceback
            running: dict[Future[Result], Trial] = {pool.submit(_work, work, trial): trial for trial in trials}
        try:
            while running:
                done, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                _forward(messages, on_message)
                for future in done:
                    trial = running.pop(future)
                    on_end(trial, _ending(trial, future))
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


def _forward(messages: Any, on_message: Callable[[Any], None]) -> None:
    while True:
        try:
            on_message(messages.get_nowait())
        except queue.Empty:
            return


def _ending(trial: Trial, future: Future[Result]) -> Result:
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
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose study was killed must not go on writing beside the resumed one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _work(work: Work[Result], trial: Trial) -> Result:
    prepared, messages = _shared
    with conditions(prepared.spec):
        return work(trial, prepared, messages.put)
