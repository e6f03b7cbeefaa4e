"""Trials on a Ray cluster. Its machines need not share a file system: all files travel through Ray."""

import logging
import os
import signal
import socket
import warnings
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from mirst.data import CarriedImages
from mirst.errors import MirstError
from mirst.files import atomic
from mirst.nn import find_weights
from mirst.nn.device import VARIABLE
from mirst.study.engines.base import Engine, Events, Job, Kill, OnKill, Result, Round, named
from mirst.study.engines.ray_worker import Files, Shipment, serve
from mirst.study.identity import PACKAGES
from mirst.study.spec import StudySpec, packages_of
from mirst.study.trial import Trial
from mirst.training.state import forget_state, previous_state, replace_state

MAX_LOSSES = 3
"""A trial is given up when its machine is lost this many times in a row before a checkpoint."""


@dataclass(frozen=True)
class Ray(Engine):
    """Tasks of a Ray cluster.

    Raises:
        MirstError: settings out of range.

    >>> Ray(gpus=0.5)
    Ray(jobs=None, gpus=0.5, address=None)
    """

    jobs: int | None = None
    """Trials at the same time; by default as many as the cluster has room for."""
    gpus: float | None = None
    """GPUs of a trial, also a part of one; by default 1 if the cluster has any, else 0."""
    address: str | None = None
    """`HOST:PORT` of the head, or `auto`; by default the cluster that this machine belongs to, else a new one."""

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise MirstError(f"--jobs is {self.jobs}; it must be at least 1")
        if self.gpus is not None and not (0 <= self.gpus < 1 or (self.gpus > 0 and self.gpus.is_integer())):  # or NaN
            raise MirstError(f"--gpus-per-trial is {self.gpus:g}; it must be a share of one, 0, or a whole number")

    @contextmanager
    def connected(self, spec: StudySpec) -> Iterator[None]:
        """Connect to the cluster; the packages of the user's own classes and factories travel too, unless installed.

        Raises:
            MirstError: ray is not installed, or there is no cluster.
        """
        try:
            import ray
        except ImportError as error:
            raise MirstError("--engine ray needs ray; pip install 'mirst[ray]'") from error
        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _require_reachable(self.address)
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(self.address, runtime_env=_environment(spec), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise MirstError(
                f"cannot reach a Ray cluster at {self.address or 'this machine'} ({error}); give --ray-address "
                "HOST:PORT of its head, and set RAY_AUTH_MODE=token if the cluster requires a token"
            ) from error
        signal.signal(signal.SIGTERM, terminate)  # Ray replaces the handler
        try:
            yield
        finally:
            ray.shutdown()

    def parallel(self, spec: StudySpec) -> int:
        """As many trials as there is room for now; more machines may join later."""
        resources, gpus = _resources(), self._gpus_per_trial()
        room = int(resources.get("CPU", 0) / spec.training.threads)
        if gpus:
            room = min(room, int(resources.get("GPU", 0) / gpus))
        if not room:
            warnings.warn(
                f"no machine of the cluster has {spec.training.threads} CPU and {gpus:g} GPU for a trial now; "
                "the study waits for one",
                stacklevel=2,
            )
        return max(1, room if self.jobs is None else min(room, self.jobs))

    def open_round(self, job: Job[Result], events: Events[Result]) -> Round:
        import ray

        threads = job.prepared.spec.training.threads
        task = ray.remote(max_retries=0, num_returns="streaming", num_cpus=threads, num_gpus=self._gpus_per_trial())(
            serve
        ).options(_generator_backpressure_num_objects=2)  # messages not taken yet hold back later ones
        rounds = _Rounds(ray.put(shipment_of(job)), task, job, events)

        def do_round(trials: Sequence[Trial], one_at_a_time: bool, on_kill: OnKill) -> None:
            rounds.do(trials, 1 if one_at_a_time else self.jobs, on_kill)

        return do_round

    def _gpus_per_trial(self) -> float:
        if self.gpus is not None:
            return self.gpus
        return float("GPU" in _resources() and os.environ.get(VARIABLE) != "cpu")


def _environment(spec: StudySpec) -> dict[str, Any]:
    """The runtime environment, in which code of the user's own and the name of the device travel."""
    packages = packages_of(spec)
    code = {"py_modules": [str(package) for package in packages]} if packages else {}
    return code | ({"env_vars": {VARIABLE: os.environ[VARIABLE]}} if VARIABLE in os.environ else {})


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
            raise MirstError(
                f"cannot reach a Ray cluster at {address} ({error}); start Ray on the head of the cluster first"
            ) from error


def _resources() -> dict[str, float]:
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return there


class _Killed(Exception):
    """A worker was killed."""


class _Lost(Exception):
    """A machine was lost."""


class _Rounds:
    """The tasks of one work on the cluster."""

    def __init__(self, shipment: Any, task: Any, job: Job[Any], events: Events[Any]) -> None:
        self.shipment, self.task, self.job, self.events = shipment, task, job, events
        self.losses = Counter[Trial]()

    def do(self, trials: Sequence[Trial], limit: int | None, on_kill: OnKill) -> None:
        """Do the work on the trials, at most `limit` at a time."""
        import ray

        waiting, running = deque(trials), dict[Any, Trial]()
        while waiting or running:
            while waiting and (limit is None or len(running) < limit):
                trial = waiting.popleft()
                running[self.task.remote(self.shipment, trial, self._inputs(trial))] = trial
            for stream in ray.wait(list(running))[0]:
                trial = running[stream]
                try:
                    if not self._receive(trial, *_next(stream, trial)):
                        continue
                except _Killed as kill:
                    on_kill(trial, str(kill))
                except _Lost:
                    if self._retry_lost(trial):
                        waiting.appendleft(trial)
                del running[stream]

    def _inputs(self, trial: Trial) -> Files:
        work, study = self.job.work, self.job.study
        paths = list(work.inputs(trial, self.job.prepared, study))
        checkpoint = work.checkpoint(study.trial(trial.name))
        if checkpoint is not None:
            paths += [checkpoint, previous_state(checkpoint)]
        return {path.relative_to(study.path).as_posix(): path.read_bytes() for path in paths if path.exists()}

    def _retry_lost(self, trial: Trial) -> bool:
        """Report that the machine of a trial was lost; whether the trial is tried again."""
        self.losses[trial] += 1
        again = self.losses[trial] < MAX_LOSSES
        reason = "its machine was lost" if again else f"its machine was lost {MAX_LOSSES} times before a checkpoint"
        self.events.on_kill(trial, Kill(reason, "on another machine" if again else None))
        return again

    def _receive(self, trial: Trial, kind: str, content: Any) -> bool:
        """Handle a message of `serve`; whether it is the last one."""
        folder = self.job.study.trial(trial.name)
        checkpoint = self.job.work.checkpoint(folder)
        match kind:
            case "begin":
                self.job.work.start(folder)
            case "warning":
                warnings.warn(f"trial {trial.name}: {content}", stacklevel=2)
            case "checkpoint" if checkpoint is not None:
                self.losses[trial] = 0
                replace_state(checkpoint, content)
            case "message":
                self.events.on_message(trial, content)
            case "end":
                result, files = content
                self._write(files)
                if checkpoint is not None:
                    forget_state(checkpoint)
                self.events.on_end(trial, result)
                return True
            case "kill":
                raise _Killed(content)
            case "error":
                raise named(content, trial)
        return False

    def _write(self, files: Files) -> None:
        for name, content in files.items():
            with atomic(self.job.study.path / name) as partial:
                partial.write_bytes(content)


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


def shipment_of(job: Job[Any]) -> Shipment:
    """What every trial needs, files with their content."""
    prepared = job.prepared
    carried = replace(prepared, images=CarriedImages(np.array(prepared.images.pixels), prepared.box_features))
    packages = {name: version(name) for name in PACKAGES}
    if prepared.weights is None:
        return Shipment(job.work, carried, None, "", packages)
    model = prepared.spec.model
    path = find_weights(model.weights, model.name, model.options)
    return Shipment(job.work, carried, np.fromfile(path, dtype=np.uint8), path.suffix, packages)
