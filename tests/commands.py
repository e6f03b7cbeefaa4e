"""`mirst` commands as processes of their own, forked from a server that has imported everything once.

A command of a new interpreter imports for 5 s, and so does the server of its workers; these share one server with the
studies of the tests. The tests of signals to a process group, and of the time before the imports, start new
interpreters.
"""

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from pathlib import Path

from mirst.cli import main
from mirst.study.engines.local import PRELOADED

CONTEXT = multiprocessing.get_context("forkserver")


class Forked:
    """A process that runs `target`, with what `subprocess.Popen` has for text."""

    def __init__(self, target: Callable[..., object], *arguments: object, **variables: str) -> None:
        CONTEXT.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()
        self._others = _forks()
        (out, their_out), (err, their_err) = (CONTEXT.Pipe(duplex=False) for _ in range(2))
        environment = os.environ | variables
        self._process = CONTEXT.Process(target=_run, args=(environment, their_out, their_err, target, arguments))
        self._process.start()
        self.pid = self._process.pid
        self.stdout, self.stderr = (os.fdopen(os.dup(end.fileno()), encoding="utf-8") for end in (out, err))
        for end in (out, err, their_out, their_err):
            end.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def workers(self) -> set[int]:
        """What the server started after this process: the workers of its study."""
        return _forks() - {self.pid} - self._others

    def wait(self, timeout: float = 600) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Waits for the end; the rest of its output and of its errors."""
        with ThreadPoolExecutor(2) as readers, self.stdout, self.stderr:
            texts = readers.map(lambda stream: stream.read(), (self.stdout, self.stderr))
            self.wait(timeout)
            out, err = texts
        return out, err


def started(*arguments: object, **variables: str) -> Forked:
    """`mirst` with `arguments`, with `variables` added to the environment."""
    return Forked(_command, *map(str, arguments), **variables)


def _command(*arguments: str) -> None:
    sys.argv = ["mirst", *arguments]
    main()


def _run(environment, out, err, target, arguments) -> None:
    """Make of a fork what a new interpreter is."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # the server may have asked for it
    forkserver._forkserver.ensure_running = lambda: None  # it runs; a fork does not know that, and would start another
    for end, number in ((out, 1), (err, 2)):
        os.dup2(end.fileno(), number)
        end.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a study starts the server with its signals blocked
    try:
        target(*arguments)
    finally:
        atexit._run_exitfuncs()


def _forks() -> set[int]:
    """The children of the server."""
    server = forkserver._forkserver._forkserver_pid
    return {int(child) for child in Path(f"/proc/{server}/task/{server}/children").read_text().split()}
