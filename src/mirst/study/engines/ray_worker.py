"""A trial on some machine of a cluster: what it needs arrives with it, what it leaves is sent home."""

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

from mirst.errors import MirstError
from mirst.study.engines.local import failure_of
from mirst.study.trial import STATE, Prepared, Trial, conditions, run_trial, take_files

SHARE = 20
"""A checkpoint is sent home when this many times as long has gone by as the last one took."""
Message = tuple[str, Any]


@dataclass(frozen=True)
class Shipment:
    """What every trial of a study needs; it comes to each machine once."""

    prepared: Prepared
    weights: NDArray[np.uint8] | None
    """Content of the file that training starts from."""
    suffix: str
    """Of that file."""
    packages: dict[str, str]


def serve(shipment: Shipment, trial: Trial, checkpoint: dict[str, bytes]) -> Iterator[Message]:
    """A trial on some machine of the cluster, as messages.

    The work has a thread of its own: it tells of itself by calling, and only this one can yield.
    """
    yield "begin", None
    with tempfile.TemporaryDirectory(prefix="mirst-") as scratch:
        folder = Path(scratch) / trial.name
        folder.mkdir()
        for name, content in checkpoint.items():
            (folder / name).write_bytes(content)
        messages = queue.SimpleQueue[Message]()
        threading.Thread(target=_work, args=(shipment, trial, folder, messages), daemon=True).start()
        yield from _sent(messages, folder)


def _sent(messages: queue.SimpleQueue[Message], folder: Path) -> Iterator[Message]:
    """The messages, with checkpoints and files between them."""
    kind, due = "", 0.0
    while kind not in ("end", "kill", "error"):
        kind, content = messages.get()
        if kind == "epoch" and time.monotonic() >= due:
            start = time.monotonic()
            with suppress(FileNotFoundError):  # the trial has ended meanwhile
                yield "state", (folder / STATE).read_bytes()
            due = time.monotonic() + SHARE * (time.monotonic() - start)
        yield kind, (content, take_files(folder)) if kind == "end" else content


def _work(shipment: Shipment, trial: Trial, folder: Path, messages: queue.SimpleQueue[Message]) -> None:
    try:
        require_same(shipment.packages)
        prepared = landed(shipment, folder.parent)
        with warnings.catch_warnings(), conditions(prepared.spec):
            warnings.showwarning = lambda message, *_: messages.put(("warning", str(message)))
            messages.put(("end", run_trial(trial, prepared, folder, lambda epoch: messages.put(("epoch", epoch)))))
    except Exception as error:  # noqa: BLE001 (the study raises it again, or tries the trial alone)
        messages.put(failure_of(error))


def require_same(packages: dict[str, str]) -> None:
    """Numbers repeat between machines of one kind with the same versions.

    Raises:
        MirstError: this one has another version of one of `packages`.
    """
    for name, wanted in packages.items():
        if version(name) != wanted:
            raise MirstError(
                f"{platform.node()} has {name} {version(name)}, the study runs with {wanted}; "
                "install the same versions on every machine"
            )


def landed(shipment: Shipment, folder: Path) -> Prepared:
    """The study with its initial weights in a file of this machine."""
    prepared = shipment.prepared
    if shipment.weights is None:
        return prepared
    path = folder / f"weights{shipment.suffix}"
    shipment.weights.tofile(path)
    model = prepared.spec.model.model_copy(update={"weights": str(path)})
    return replace(prepared, spec=prepared.spec.model_copy(update={"model": model}))
