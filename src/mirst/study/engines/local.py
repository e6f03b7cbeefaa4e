"""Trials in worker processes on this machine."""

import gc
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, Literal

from mirst.allocator import keep_freed_memory
from mirst.data.threads import available_cores
from mirst.errors import MirstError
from mirst.nn.device import default_device
from mirst.study.engines.base import Engine, Events, Job, OnKill, Result, Round, named
from mirst.study.engines.memory import out_of_memory, starve_first, starved_processes
from mirst.study.prepared import conditions
from mirst.study.spec import StudySpec
from mirst.study.trial import Trial
from mirst.training.signals import signals_held

PRELOADED = ["mirst.study.train_trial", "mirst.nn.accelerate.drop_max_cpu", "scipy.special", "torch._dynamo"]
"""What the server of workers imports once. They start from it in 0.1 s; on their own each would import it for 5 s."""

CAN_BLOCK_SIGNALS = hasattr(signal, "pthread_sigmask")
"""Not on Windows."""


@dataclass(frozen=True)
class Local(Engine):
    """Processes on this machine.

    >>> Local(jobs=2).parallel(StudySpec())
    2
    """

    jobs: int | None = None
    """Trials at the same time; by default as many as the cores allow, or one on a GPU."""

    def parallel(self, spec: StudySpec) -> int:
        if self.jobs is not None:
            if self.jobs < 1:
                raise MirstError(f"--jobs is {self.jobs}; it must be at least 1")
            return self.jobs
        if default_device().type != "cpu":
            return 1
        return max(1, available_cores() // spec.training.threads)

    def open_round(self, job: Job[Result], events: Events[Result]) -> Round:
        parallel = self.parallel(job.prepared.spec)

        def do_round(trials: Sequence[Trial], one_at_a_time: bool, on_kill: OnKill) -> None:
            _round(trials, partial(_Worker, job), 1 if one_at_a_time else parallel, events, on_kill)

        return do_round


def failure_of(error: Exception) -> tuple[str, Any]:
    """What a worker sends instead of a result: how it ran out of memory, or the error with its traceback."""
    lack = out_of_memory(error)
    if lack is not None:
        return "kill", lack
    error.add_note(traceback.format_exc())
    return "error", error


def _round(
    trials: Sequence[Trial], make: "partial[_Worker]", parallel: int, events: Events[Result], on_kill: OnKill
) -> None:
    waiting = deque(trials)
    everyone: list[_Worker] = []
    busy: dict[Any, _Worker] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < parallel:
                worker = make()
                everyone.append(worker)  # before it starts: an interrupt must reach it
                busy[worker.connection] = worker
                worker.start(waiting.popleft())
            for connection in wait_for(list(busy)):
                worker = busy[connection]
                kind, content = worker.receive()
                if kind == "message":
                    events.on_message(worker.trial, content)
                    continue
                if kind == "kill":
                    on_kill(worker.trial, content)
                else:
                    events.on_end(worker.trial, content)
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


def _context() -> ForkServerContext | SpawnContext:
    """Forks of a server without threads where there are forks; new processes on Windows."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


class _Worker:
    """A process that does the work on one trial after the other, until its connection is closed."""

    def __init__(self, job: Job[Any]) -> None:
        self.job, self.starved = job, starved_processes()
        context = _context()
        self.connection, self.theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.theirs,))

    def start(self, trial: Trial) -> None:
        resource_tracker.ensure_running()  # `Process.start` would start it and unblock the signals
        with signals_held(True), _signals_blocked():
            self.process.start()
        self.theirs.close()
        self._send((dict(os.environ), self.job))
        self.give(trial)

    def give(self, trial: Trial) -> None:
        self.trial = trial
        self._send(trial)

    def _send(self, content: Any) -> None:
        with suppress(OSError):  # `receive` notices that the worker was killed just now
            self.connection.send(content)

    def interrupt(self) -> None:
        """Let it save the step that it is in, and end; on Windows it ends at once, and its last checkpoint stays."""
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
        name = signal.Signals(-code).name
        if name != "SIGKILL":
            return f"killed by {name}"
        starved = starved_processes()
        if starved is None or self.starved is None:
            return "killed by SIGKILL, perhaps for lack of memory"
        return "killed for lack of memory" if starved > self.starved else "killed by SIGKILL"


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that is started in the block begins with interrupts and terminations blocked."""
    if not CAN_BLOCK_SIGNALS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: "Connection[Any, Any]") -> None:
    gc.freeze()  # else each full collection walks all that the server imported, and copies its pages
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, _interrupt)
    starve_first()
    keep_freed_memory()
    with suppress(KeyboardInterrupt, EOFError):  # EOF: the end of the study
        if CAN_BLOCK_SIGNALS:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        environment, job = connection.recv()
        os.environ.clear()  # the server has that of the first study
        os.environ.update(environment)
        with conditions(job.prepared.spec):
            _serve_trials(connection, job)


def _serve_trials(connection: "Connection[Any, Any]", job: Job[Any]) -> None:
    while True:
        trial = connection.recv()
        try:
            job.work.start(job.study.trial(trial.name))
            result = job.work(trial, job.prepared, job.study, lambda content: connection.send(("message", content)))
            last = ("end", result)
        except Exception as error:  # noqa: BLE001 - the study raises it again, or retries the trial alone
            last = failure_of(error)
        connection.send(last)


def _interrupt(*_: object) -> None:
    """Once: a terminal and the study may both send it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A worker whose study was killed must not write beside the resumed study."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
