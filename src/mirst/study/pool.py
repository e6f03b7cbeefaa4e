"""Work on many trials at a time, in worker processes on one machine."""

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

import torch

from mirst.errors import MirstError
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, Trial, conditions

Result = TypeVar("Result")
Work = Callable[[Trial, Prepared, Callable[[Any], None]], Result]
"""What a worker does with a trial: a function that can be pickled. It may send messages and returns what came of it."""


LIVES = 2
"""So often a trial is begun: a worker that the system kills once may have met a moment without memory."""


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

    A trial whose worker is killed is begun once more by another, and goes on from its last checkpoint; if that
    one is killed too, the others are done all the same.

    Args:
        on_message: gets what `work` sends.
        on_end: gets each trial with what `work` returned.

    Raises:
        MirstError: as `work`, with the trial's name; or, at the end, trials whose workers were killed.
    """
    waiting, killed, lost = deque(trials), Counter[str](), list[str]()
    workers: list[_Worker[Result]] = []
    try:
        while waiting or any(worker.trial for worker in workers):
            while waiting and (idle := _idle(workers, jobs, prepared, work)):
                idle.begin(waiting.popleft())
            for worker in _ready(workers):
                trial = worker.listen(on_message, on_end)
                if trial is None:
                    continue
                workers.remove(worker)
                killed[trial.name] += 1
                if killed[trial.name] < LIVES:
                    waiting.appendleft(trial)
                else:
                    lost.append(f"{trial.name} (signal {-(worker.process.exitcode or 0)})")
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
    if lost:
        raise MirstError(
            f"killed twice, perhaps for memory: {', '.join(lost)}; the other trials are done, the same command tries "
            "these again, --jobs 1 needs less"
        )


class _Worker(Generic[Result]):
    """A process, and the trial that it is doing."""

    def __init__(self, prepared: Prepared, work: Work[Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, prepared, work))
        self.trial: Trial | None = None
        with _interrupts_held():  # or one that starts right now would die of them, with a traceback
            self.process.start()
        theirs.close()

    def begin(self, trial: Trial) -> None:
        self.trial = trial
        with suppress(BrokenPipeError):  # it was killed before it began: `listen` finds out
            self.pipe.send(trial)

    def listen(self, on_message: Callable[[Any], None], on_end: Callable[[Trial, Result], None]) -> Trial | None:
        """Hear what it has to say.

        Returns:
            The trial that it leaves behind, if it was killed.
        """
        trial = self.trial
        assert trial is not None
        try:
            kind, told = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return trial
        if kind == "message":
            on_message(told)
        elif kind == "error":
            raise MirstError(f"trial {trial.name}: {told}") if isinstance(told, MirstError) else told
        else:
            self.trial = None
            on_end(trial, told)
        return None


def _idle(workers: list[_Worker[Result]], jobs: int, prepared: Prepared, work: Work[Result]) -> _Worker[Result] | None:
    """A worker without a trial, a new one if there may be another."""
    for worker in workers:
        if worker.trial is None:
            return worker
    if len(workers) == jobs:
        return None
    workers.append(_Worker(prepared, work))
    return workers[-1]


def _ready(workers: list[_Worker[Result]]) -> list[_Worker[Result]]:
    """Workers with a trial that have something to say, or have died."""
    of_pipe = {worker.pipe: worker for worker in workers if worker.trial}
    return [of_pipe[pipe] for pipe in wait(list(of_pipe), timeout=0.2)]  # type: ignore[index]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Interrupts wait until the end of the block; a process that is started in it holds them for good."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Any, prepared: Prepared, work: Work[Any]) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the study's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with conditions(prepared.spec):
        while True:
            trial = pipe.recv()
            try:
                answer = "end", work(trial, prepared, lambda message: pipe.send(("message", message)))
            except Exception as error:  # noqa: BLE001 - it is raised again in the study's own process
                answer = "error", error
            pipe.send(answer)


def _end_with_parent() -> None:
    """A worker whose study was killed must not go on writing beside the resumed one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
