"""Work on a trial on some machine of a Ray cluster: what it needs comes with the task, what it writes is sent back."""

import platform
import queue
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirst.allocator import keep_freed_memory
from mirst.errors import MirstError
from mirst.study.engines.base import Work
from mirst.study.engines.local import failure_of
from mirst.study.layout import StudyFolder
from mirst.study.prepared import Prepared, conditions
from mirst.study.trial import Trial

SHARE = 20
"""A checkpoint is sent only when this many times the duration of the last transfer has passed."""
Message = tuple[str, Any]
Files = dict[str, bytes]
"""Content by the path within the results folder."""


@dataclass(frozen=True)
class Shipment:
    """What all trials need; Ray copies it to each machine once."""

    work: Work[Any]
    prepared: Prepared
    weights: NDArray[np.uint8] | None
    """Content of the file of initial weights."""
    suffix: str
    """Of that file."""
    packages: dict[str, str]
    """Versions by package name."""


def serve(shipment: Shipment, trial: Trial, files: Files) -> Iterator[Message]:
    """Do the work on a trial and yield messages: `begin`, `message`, `warning`, `checkpoint`, `end`, `kill`, `error`.

    The work has a thread of its own, because it sends messages by calling a function and only this thread can yield.
    """
    keep_freed_memory()
    yield "begin", None
    with tempfile.TemporaryDirectory(prefix="mirst-") as scratch:
        study = StudyFolder(Path(scratch) / "results")
        write_files(study, files)
        study.trial(trial.name).path.mkdir(parents=True, exist_ok=True)
        before = _stamps(study)
        messages = queue.SimpleQueue[Message]()
        threading.Thread(target=_work, args=(shipment, trial, study, messages), daemon=True).start()
        yield from _sent(messages, shipment.work, trial, study, before)


def write_files(study: StudyFolder, files: Files) -> None:
    """Write `files` into the results folder."""
    for name, content in files.items():
        path = study.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _sent(
    messages: queue.SimpleQueue[Message], work: Work[Any], trial: Trial, study: StudyFolder, before: dict[Path, int]
) -> Iterator[Message]:
    """The messages of the work, with checkpoints between them and the written files at the end."""
    kind, due, checkpoint = "", 0.0, work.checkpoint(study.trial(trial.name))
    while kind not in ("end", "kill", "error"):
        kind, content = messages.get()
        if kind == "message" and checkpoint is not None and time.monotonic() >= due:
            start = time.monotonic()
            with suppress(FileNotFoundError):  # the work has ended meanwhile
                yield "checkpoint", checkpoint.read_bytes()
            due = time.monotonic() + SHARE * (time.monotonic() - start)
        yield kind, (content, _written(study, before, work.end_marks())) if kind == "end" else content


def _stamps(study: StudyFolder) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in study.path.rglob("*") if path.is_file()}


def _written(study: StudyFolder, before: dict[Path, int], end_marks: tuple[str, ...]) -> Files:
    """The new and changed files; those that mark the end come last."""
    changed = [path for path, stamp in _stamps(study).items() if before.get(path) != stamp]
    changed.sort(key=lambda path: (path.name in end_marks, path))
    return {path.relative_to(study.path).as_posix(): path.read_bytes() for path in changed}


def _work(shipment: Shipment, trial: Trial, study: StudyFolder, messages: queue.SimpleQueue[Message]) -> None:
    try:
        require_same(shipment.packages)
        prepared = with_weights(shipment, study.path.parent)
        with warnings.catch_warnings(), conditions(prepared.spec):
            warnings.showwarning = lambda message, *_: messages.put(("warning", str(message)))
            result = shipment.work(trial, prepared, study, lambda content: messages.put(("message", content)))
            messages.put(("end", result))
    except Exception as error:  # noqa: BLE001 - the study raises it again, or retries the trial alone
        messages.put(failure_of(error))


def require_same(packages: dict[str, str]) -> None:
    """Numbers repeat between machines of one kind only with the same versions.

    Raises:
        MirstError: this machine has another version of one of `packages`.
    """
    for name, wanted in packages.items():
        if version(name) != wanted:
            raise MirstError(
                f"{platform.node()} has {name} {version(name)}, but the study runs with {wanted}; "
                "install the same versions on every machine"
            )


def with_weights(shipment: Shipment, folder: Path) -> Prepared:
    """The prepared study, its initial weights in a file of this machine."""
    if shipment.weights is None:
        return shipment.prepared
    path = folder / f"weights{shipment.suffix}"
    shipment.weights.tofile(path)
    return replace(shipment.prepared, weights_file=str(path))
