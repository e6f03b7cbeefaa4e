"""Trials on a Ray cluster. Its machines need not share a file system: what a trial needs and leaves travels by Ray."""

import logging
import os
import signal
import socket
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mirst.data import CarriedImages
from mirst.errors import MirstError
from mirst.nn import find_weights, is_factory, package_of
from mirst.study.engines.base import Step, Tell, kill_step
from mirst.study.engines.local import named
from mirst.study.engines.ray_worker import Shipment, serve
from mirst.study.results import PACKAGES
from mirst.study.spec import StudySpec
from mirst.study.trial import STATE, Prepared, Trial, begin, put_files, trial_folder
from mirst.training.state import previous_state, replace_state

LOSSES = 3
"""As often in a row may the machine of a trial be lost before one epoch has ended."""


@contextmanager
def ray_engine(
    address: str | None = None, *, jobs: int | None = None, gpus: float | None = None, model: str = ""
) -> "Iterator[RayEngine]":
    """The cluster at `address`, or the one that this machine belongs to; else one of this machine alone, for the block.

    Args:
        address: `HOST:PORT` of its head, or `auto`.
        jobs: trials at a time; as many as the cluster has room for, by default.
        gpus: of a trial, also a part of one; one where the cluster has any, by default.
        model: name of the study's; the package of a factory travels too, unless it is installed.

    Raises:
        MirstError: ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise MirstError("--engine ray needs ray; pip install 'mirst[ray]'") from error
    if ray.is_initialized():
        yield RayEngine(jobs, gpus)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _require_reachable(address)
    package = package_of(model) if is_factory(model) else None
    code = None if package is None else {"py_modules": [str(package)]}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise MirstError(
            f"no Ray cluster answers at {address or 'this machine'} ({error}); give --ray-address HOST:PORT of its "
            "head, and RAY_AUTH_MODE=token where it asks for one"
        ) from error
    signal.signal(signal.SIGTERM, terminate)  # Ray puts its own in its place
    try:
        yield RayEngine(jobs, gpus)
    finally:
        ray.shutdown()


class RayEngine:
    """Tasks of the Ray cluster that this process is connected to."""

    def __init__(self, jobs: int | None, gpus: float | None) -> None:
        if jobs is not None and jobs < 1:
            raise MirstError(f"--jobs is {jobs}; it must be at least 1")
        if gpus is not None and not (0 <= gpus < 1 or (gpus > 0 and gpus.is_integer())):  # also NaN
            raise MirstError(f"--gpus-per-trial is {gpus:g}; it must be a share of one, 0, or a whole number")
        self.jobs = jobs
        self.gpus = gpus if gpus is not None else float("GPU" in _resources())

    def at_once(self, spec: StudySpec) -> int:
        """As many as there is room for now; more machines may join later."""
        there = _resources()
        room = int(there.get("CPU", 0) / spec.training.threads)
        if self.gpus:
            room = min(room, int(there.get("GPU", 0) / self.gpus))
        if not room:
            warnings.warn(
                f"no machine of the cluster has {spec.training.threads} CPU and {self.gpus:g} GPU for a trial now; "
                "the study waits for one",
                stacklevel=2,
            )
        return max(1, room if self.jobs is None else min(room, self.jobs))

    def train(self, trials: Sequence[Trial], prepared: Prepared, out: Path, tell: Tell) -> None:
        import ray

        run = _Run(ray.put(shipment_of(prepared)), self._task(prepared.spec), out, tell)
        killed = run.round(trials, self.jobs, again=True)
        run.round(killed, 1, again=False)

    def _task(self, spec: StudySpec) -> Any:
        import ray

        task = ray.remote(max_retries=0, num_returns="streaming", num_cpus=spec.training.threads, num_gpus=self.gpus)
        # what the driver has not taken yet holds back what comes next
        return task(serve).options(_generator_backpressure_num_objects=2)


def _require_reachable(address: str | None) -> None:
    """Ray itself tries an address for minutes, and its client (`ray://`) does not pass on streams."""
    host, colon, port = (address or "").rpartition(":")
    if host.startswith("ray"):
        raise MirstError(
            f"--ray-address is {address}; run the command on a machine of the cluster, or by ray job submit, and give "
            "HOST:PORT of the head"
        )
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise MirstError(f"no Ray cluster answers at {address} ({error}); is its head started there?") from error


def _resources() -> dict[str, float]:
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return there


class _Killed(Exception):
    """A worker was."""


class _Lost(Exception):
    """A machine was."""


class _Run:
    """The trials of one study on the cluster."""

    def __init__(self, shipment: Any, task: Any, out: Path, tell: Tell) -> None:
        self.shipment, self.task, self.out, self.tell = shipment, task, out, tell
        self.losses = Counter[Trial]()

    def round(self, trials: Sequence[Trial], limit: int | None, again: bool) -> list[Trial]:
        """Run the trials, at most `limit` at a time; gives those whose worker was killed."""
        import ray

        waiting, running, killed = deque(trials), dict[Any, Trial](), list[Trial]()
        while waiting or running:
            while waiting and (limit is None or len(running) < limit):
                trial = waiting.popleft()
                running[self._start(trial)] = trial
            for stream in ray.wait(list(running))[0]:
                trial = running[stream]
                try:
                    if not self._hear(trial, *_next(stream, trial)):
                        continue
                except _Killed as kill:
                    self.tell(kill_step(trial, str(kill), again))
                    killed.append(trial)
                except _Lost:
                    if self._lose(trial):
                        waiting.appendleft(trial)
                del running[stream]
        return killed

    def _start(self, trial: Trial) -> Any:
        state = trial_folder(self.out, trial) / STATE
        files = {path.name: path.read_bytes() for path in (state, previous_state(state)) if path.exists()}
        return self.task.remote(self.shipment, trial, files)

    def _lose(self, trial: Trial) -> bool:
        """Tell of it; whether the trial goes on."""
        self.losses[trial] += 1
        if self.losses[trial] < LOSSES:
            self.tell(Step(trial.name, None, killed="its machine was lost", again="elsewhere"))
            return True
        reason = f"its machine was lost {LOSSES} times before an epoch had ended"
        self.tell(Step(trial.name, None, killed=reason))
        return False

    def _hear(self, trial: Trial, kind: str, content: Any) -> bool:
        """A message of `serve`; whether it is the last one."""
        folder = trial_folder(self.out, trial)
        match kind:
            case "begin":
                begin(folder)
            case "warning":
                warnings.warn(f"trial {trial.name}: {content}", stacklevel=2)
            case "state":
                replace_state(folder / STATE, content)
            case "epoch":
                self.losses[trial] = 0
                self.tell(Step(trial.name, content))
            case "end":
                diverged, files = content
                put_files(folder, files)
                self.tell(Step(trial.name, None, diverged))
                return True
            case "kill":
                raise _Killed(content)
            case "error":
                raise named(content, trial)
        return False


def _next(stream: Any, trial: Trial) -> Any:
    """The next message of a task, or how Ray lost it."""
    import ray
    from ray import exceptions

    try:
        return ray.get(next(stream))
    except exceptions.OutOfMemoryError as error:
        raise _Killed("killed for lack of memory") from error
    except exceptions.WorkerCrashedError as error:
        raise _Killed("killed, perhaps for lack of memory") from error
    except (exceptions.NodeDiedError, exceptions.ObjectLostError) as error:
        raise _Lost from error
    except exceptions.RayError as error:
        raise MirstError(f"trial {trial.name}: Ray cannot run it ({error})") from error


def shipment_of(prepared: Prepared) -> Shipment:
    """What every trial needs, files with their content."""
    carried = replace(prepared, images=CarriedImages(np.array(prepared.images.pixels)))
    packages = {name: version(name) for name in PACKAGES}
    model = prepared.spec.model
    if prepared.weights is None:
        return Shipment(carried, None, "", packages)
    path = find_weights(model.weights, model.name)
    return Shipment(carried, np.fromfile(path, dtype=np.uint8), path.suffix, packages)
