"""What survives a kill: the state of a training run after each epoch."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.files import atomic

Weights = dict[str, Tensor]


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


def save_state(path: Path, run: str, state: State, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write everything that the next epoch depends on. `run` tells one run from another."""
    payload = {
        "run": run,
        "history": [asdict(epoch) for epoch in state.history],
        "best_epoch": state.best_epoch,
        "best_value": state.best_value,
        "best_weights": state.best_weights,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with atomic(path) as partial:
        torch.save(payload, partial)


def load_state(path: Path, run: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Restore model and optimizer in place; an empty state where `path` does not exist.

    Raises:
        MirstError: the file belongs to another run, or cannot be read.
    """
    if not path.exists():
        return State(history=[])
    payload = _read(path)
    if payload["run"] != run:
        raise MirstError(f"training state {path} belongs to a run with other settings; remove it or name another file")
    model.load_state_dict(payload["model"])
    optimizer.load_state_dict(payload["optimizer"])
    return State(
        history=_epochs(payload),
        best_epoch=payload["best_epoch"],
        best_value=payload["best_value"],
        best_weights=payload["best_weights"],
    )


def read_epochs(path: Path) -> list[Epoch]:
    """The epochs in a training state.

    Raises:
        MirstError: the file cannot be read.
    """
    return _epochs(_read(path))


def _epochs(payload: dict[str, Any]) -> list[Epoch]:
    return [Epoch(**fields) for fields in payload["history"]]


def _read(path: Path) -> dict[str, Any]:
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise MirstError(f"training state {path} cannot be read ({error}); remove it to start afresh") from error
    return payload
