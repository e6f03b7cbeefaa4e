"""What survives a kill: the state of a training run after each epoch, or between two steps."""

import io
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.files import atomic
from mirst.training.epoch import Begun

Weights = dict[str, Tensor]
VERSION = 2
"""Of the layout of the file."""
ZIP = b"PK\x03\x04"
"""With this `torch.save` begins."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch showed."""

    number: int
    """From 1."""
    loss: float
    """Mean of the defense's total over the batches."""
    terms: dict[str, float]
    """Means of its parts."""
    eps_share: float
    """Share of the full eps trained with."""
    clean: float | None
    """Balanced accuracy (larger logit) on the clean validation images."""
    attacked: float | None
    """The same under PGD, where `select` asks for it."""
    seconds: float = field(default=0.0, compare=False)
    """What it took, validation included."""


@dataclass
class State:
    """The epochs so far, and the best weights among them where one is to be selected."""

    history: list[Epoch]
    best_epoch: int | None = None
    best_value: float = -1.0
    best_weights: Weights | None = None
    begun: Begun = field(default_factory=Begun)
    """What is done of the epoch after those of the history."""


def save_state(path: Path, run: str, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write everything that the next epoch depends on, and keep the state before it. `run` tells runs apart."""
    payload = {
        "version": VERSION,
        "run": run,
        "history": [asdict(epoch) for epoch in state.history],
        "best_epoch": state.best_epoch,
        "best_value": state.best_value,
        "best_weights": state.best_weights,
        "running": asdict(state.begun),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    content = io.BytesIO()  # torch itself does not tell a full disk from a defect of its own
    torch.save(payload, content)
    replace_state(path, content.getbuffer())


def replace_state(path: Path, content: bytes | memoryview) -> None:
    """Write a state as `save_state` does: the one before it stays beside it."""
    with atomic(path) as partial:
        partial.write_bytes(content)
        if path.exists():
            path.replace(previous_state(path))


def load_state(path: Path, run: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Restore model and optimizer in place; an empty state where there is none.

    Where the last state is damaged, the one before it counts, with a warning; where that is damaged too, there is none.

    Raises:
        MirstError: the file belongs to another run or is none of ours.
    """
    payload = _read(path)
    if payload is None:
        return State(history=[])
    if payload.get("version") != VERSION:
        raise MirstError(f"training state {path} was written by another version of mirst; remove it to start afresh")
    if payload["run"] != run:
        raise MirstError(f"training state {path} belongs to a run with other settings; remove it or name another file")
    model.load_state_dict(payload["model"])
    optimizer.load_state_dict(payload["optimizer"])
    return State(
        history=_epochs(payload),
        best_epoch=payload["best_epoch"],
        best_value=payload["best_value"],
        best_weights=payload["best_weights"],
        begun=Begun(**payload["running"]),
    )


def read_epochs(path: Path) -> list[Epoch]:
    """The epochs in a training state; none where there is no state.

    Raises:
        MirstError: the file is none of ours.
    """
    payload = _read(path)
    return [] if payload is None else _epochs(payload)


def forget_state(path: Path) -> None:
    """Remove the state, and the one before it."""
    for file in (path, previous_state(path)):
        file.unlink(missing_ok=True)


def previous_state(path: Path) -> Path:
    """Where the state before the one at `path` is kept."""
    return path.with_name(f"{path.name}.previous")


def _epochs(payload: dict[str, Any]) -> list[Epoch]:
    return [Epoch(**fields) for fields in payload["history"]]


def _read(path: Path) -> dict[str, Any] | None:
    files = [file for file in (path, previous_state(path)) if file.exists()]
    for file in files:
        try:
            payload: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
            reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
            _require_ours(file, reason)
            rest = "afresh" if file == files[-1] else "from the state before"
            warnings.warn(f"{file} is damaged ({reason}); training goes on {rest}", stacklevel=3)
        else:
            return payload
    return None


def _require_ours(file: Path, problem: str) -> None:
    """A damaged state may be written anew; somebody's other file may not."""
    with file.open("rb") as opened:
        if opened.read(len(ZIP)) not in (ZIP, b"", bytes(len(ZIP))):
            raise MirstError(f"{file} is no training state ({problem}); remove it or name another file")
