"""Work on many trials at a time, in worker processes on one machine."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any, Literal, TypeVar

import torch

from mirst.errors import MirstError
from mirst.study.engines.memory import out_of_memory, starve_first, starved_processes
from mirst.study.spec import StudySpec
from mirst.study.trial import Prepared, Trial, conditions
from mirst.training.signals import signals_held

Result = TypeVar("Result")
Work = Callable[[Trial, Prepared, Callable[[Any], None]], Result]
"""What a worker does with a trial: a function that can be pickled. It may send messages and returns what came of it."""
SPAWN = multiprocessing.get_context("spawn")


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


def refuse_kill(trial: Trial, reason: str, again: bool) -> None:
    """For work that has no use for a second attempt."""
    raise MirstError(f"the worker of trial {trial.name} was {reason}; the same command goes on, --jobs 1 needs less")


def failure_of(error: Exception) -> tuple[str, Any]:
    """What a worker answers instead of a result: that memory was short, or the error with its traceback."""
    lack = out_of_memory(error)
    if lack is not None:
        return "kill", lack
    error.add_note(traceback.format_exc())
    return "error", error


def named(error: Exception, trial: Trial) -> Exception:
    """The error of a worker, to be raised; a sentence of ours begins with the trial."""
    if not isinstance(error, MirstError):
        return error
    sentence = MirstError(f"trial {trial.name}: {error}")
    sentence.__cause__ = error
    return sentence


def over_trials(
    trials: Sequence[Trial],
    prepared: Prepared,
    work: Work[Result],
    jobs: int,
    on_message: Callable[[Any], None],
    on_end: Callable[[Trial, Result], None],
    on_kill: Callable[[Trial, str, bool], None] = refuse_kill,
) -> None:
    """Do `work` on every trial, `jobs` at a time, each in a process of its own thread count.

    A trial whose worker is killed or runs out of memory is begun once more when all others have ended, alone, since
    lack of memory is what kills. A KeyboardInterrupt lets every worker end its step and save it; a second one does not.

    Args:
        on_message: gets what `work` sends.
        on_end: gets each trial with what `work` returned.
        on_kill: gets a trial whose worker was killed, how, and whether it will be begun once more.

    Raises:
        MirstError: as `work`, with the trial's name; or as `on_kill`.
    """
    make, killed = partial(_Worker, work, prepared), list[Trial]()

    def begin_again(trial: Trial, reason: str) -> None:
        on_kill(trial, reason, True)
        killed.append(trial)

    _round(trials, make, jobs, on_message, on_end, begin_again)
    _round(killed, make, 1, on_message, on_end, lambda trial, reason: on_kill(trial, reason, False))


def _round(
    trials: Sequence[Trial],
    make: "Callable[[], _Worker]",
    jobs: int,
    on_message: Callable[[Any], None],
    on_end: Callable[[Trial, Result], None],
    on_kill: Callable[[Trial, str], None],
) -> None:
    waiting = deque(trials)
    everyone: list[_Worker] = []
    busy: dict[Any, _Worker] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker = make()
                everyone.append(worker)  # before it starts: an interrupt must reach it
                busy[worker.connection] = worker
                worker.start(waiting.popleft())
            for connection in wait_for(list(busy)):
                worker = busy[connection]
                kind, content = worker.receive()
                if kind == "message":
                    on_message(content)
                    continue
                if kind == "kill":
                    on_kill(worker.trial, content)
                else:
                    on_end(worker.trial, content)
                if kind == "kill" or not waiting:
                    del busy[connection]
                    worker.connection.close()
                else:
                    worker.give(waiting.popleft())
        for worker in everyone:
            worker.join()
    except KeyboardInterrupt:
        _interrupt_all(everyone)
        raise
    except BaseException:
        for worker in everyone:
            worker.kill()
        raise


def _interrupt_all(workers: "Sequence[_Worker]") -> None:
    """Let them end and save the step that they are in; a second interrupt kills them."""
    try:
        with signals_held(True):
            for worker in workers:
                worker.interrupt()
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
        raise


class _Worker:
    """A process that does the work on one trial after the other, until its connection is closed."""

    def __init__(self, work: Work[Any], prepared: Prepared) -> None:
        self.prepared, self.starved = prepared, starved_processes()
        self.connection, self.theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(self.theirs, work))

    def start(self, trial: Trial) -> None:
        resource_tracker.ensure_running()  # `Process.start` would start it and unblock the signals
        with signals_held(True), _signals_blocked():
            self.process.start()
        self.theirs.close()
        self._send(self.prepared)
        self.give(trial)

    def give(self, trial: Trial) -> None:
        self.trial = trial
        self._send(trial)

    def _send(self, content: Any) -> None:
        with suppress(OSError):  # a worker that was killed just now is met again in `receive`
            self.connection.send(content)

    def interrupt(self) -> None:
        """Let it end and save the step that it is in, then itself."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)

    def join(self) -> None:
        if self.process.pid is not None:  # else it was never started
            self.process.join()

    def kill(self) -> None:
        if self.process.pid is not None:
            self.process.kill()
            self.process.join()

    def receive(self) -> "tuple[Literal['message', 'end', 'kill'], Any]":
        """A message, what the work returned, or how the process was killed, if it did not run out of memory.

        Raises:
            MirstError: as the work, with the trial's name; or the process ended by itself.
        """
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            return "kill", self._killing()
        if kind != "error":
            return kind, content
        raise named(content, self.trial)

    def _killing(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            raise MirstError(f"the worker of trial {self.trial.name} ended with exit code {code}")
        if -code != signal.SIGKILL:
            return f"killed by {signal.Signals(-code).name}"
        starved = starved_processes()
        if starved is None or self.starved is None:
            return "killed by SIGKILL, perhaps for lack of memory"
        return "killed for lack of memory" if starved > self.starved else "killed by SIGKILL"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started in the block begins with interrupts and terminations blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: "Connection[Any, Any]", work: Work[Any]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, _interrupt)
    starve_first()
    with suppress(KeyboardInterrupt, EOFError):  # EOF: the end of the study
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        prepared: Prepared = connection.recv()
        with conditions(prepared.spec):
            _serve_trials(connection, work, prepared)


def _serve_trials(connection: "Connection[Any, Any]", work: Work[Any], prepared: Prepared) -> None:
    while True:
        trial = connection.recv()
        try:
            answer = ("end", work(trial, prepared, lambda message: connection.send(("message", message))))
        except Exception as error:  # noqa: BLE001 (the study raises it again, or tries the trial alone)
            answer = failure_of(error)
        connection.send(answer)


def _interrupt(*_: object) -> None:
    """Once: a terminal and the study may both send it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A worker whose study was killed must not go on writing beside the resumed one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
