"""What survives a kill: the state of a training run after each epoch, or between two steps."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from mirst.defenses import Defense
from mirst.errors import MirstError
from mirst.files import atomic
from mirst.training.extensions import Extension
from mirst.training.settings import Training

VERSION = 2
"""Of the layout of the file."""
YOUNGER_FIELDS = ("optimizer", "weight_decay", "momentum", "label_smoothing")
"""Fields of `Training` that came after states of this version were first written."""
ZIP = b"PK\x03\x04"
"""The first bytes of what `torch.save` writes."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The figures of one epoch.

    >>> Epoch(number=1, loss=0.6, terms={"clean": 0.6}, eps_share=1.0, clean=0.8, attacked=None).clean
    0.8
    """

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
    attacked_auc: float | None = None
    """AUC under the same attack, where `select` asks for it."""
    seconds: float = field(default=0.0, compare=False)
    """What it took, validation included."""


def run_identity(defense: Defense, settings: Training, seed: int, extensions: Sequence[Extension]) -> str:
    """Text that differs between trainings of different results.

    Without extensions, without label smoothing and with the defaults of `YOUNGER_FIELDS` it is the text of versions
    without them, so their states can be resumed.
    """
    values = [
        f"{field.name}={getattr(settings, field.name)!r}"
        for field in fields(settings)
        if field.repr and not (field.name in YOUNGER_FIELDS and getattr(settings, field.name) == field.default)
    ]
    objective = repr(defense).replace(", label_smoothing=0.0", "")
    text = f"({objective}, {type(settings).__qualname__}({', '.join(values)}), {seed!r})"
    return f"{text} with {list(extensions)!r}" if extensions else text


def write_state(path: Path, content: dict[str, Any]) -> None:
    """Write the state of a training and keep the one before it."""
    buffer = io.BytesIO()  # torch itself does not tell a full disk from a defect of its own
    torch.save({"version": VERSION, **content}, buffer)
    replace_state(path, buffer.getbuffer())


def replace_state(path: Path, content: bytes | memoryview) -> None:
    """Write a state as `write_state` does, from its bytes."""
    with atomic(path) as partial:
        partial.write_bytes(content)
        if path.exists():
            path.replace(previous_state(path))


def read_state(path: Path, run: str) -> dict[str, Any] | None:
    """What `write_state` wrote; `None` where there is no state.

    If the last state is damaged, the one before it is read, with a warning; if that is damaged too, there is none.

    Args:
        run: the identity of the training, which the state has as `run`.

    Raises:
        MirstError: the file belongs to another training, or is no training state.
    """
    content = _read(path)
    if content is None:
        return None
    if content.get("version") != VERSION:
        raise MirstError(f"training state {path} was written by another version of mirst; remove it to start again")
    if content["run"] != run:
        raise MirstError(f"training state {path} belongs to a run with other settings; remove it or give another file")
    return content


def read_epochs(path: Path) -> list[Epoch]:
    """The epochs in a training state; none where there is no state.

    Raises:
        MirstError: the file is no training state.
    """
    content = _read(path)
    return [] if content is None else epochs_of(content)


def forget_state(path: Path) -> None:
    """Remove the state, and the one before it."""
    for file in (path, previous_state(path)):
        file.unlink(missing_ok=True)


def previous_state(path: Path) -> Path:
    """Where the state before the one at `path` is kept."""
    return path.with_name(f"{path.name}.previous")


def epochs_of(content: dict[str, Any]) -> list[Epoch]:
    """The epochs in what `read_state` returned."""
    return [Epoch(**values) for values in content["history"]]


def _read(path: Path) -> dict[str, Any] | None:
    files = [file for file in (path, previous_state(path)) if file.exists()]
    for file in files:
        try:
            content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
            reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
            _require_ours(file, reason)
            rest = "starts from the beginning" if file == files[-1] else "resumes from the previous state"
            warnings.warn(f"{file} is damaged ({reason}); training {rest}", stacklevel=3)
        else:
            return content
    return None


def _require_ours(file: Path, problem: str) -> None:
    """A damaged state may be written anew; somebody's other file may not."""
    with file.open("rb") as opened:
        if opened.read(len(ZIP)) not in (ZIP, b"", bytes(len(ZIP))):
            raise MirstError(f"{file} is not a training state ({problem}); remove it or give another file")
