"""Certificates batch by batch: what an interrupted call has finished is kept for the next call."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from mirst.batches import Loader
from mirst.evaluation.certificates import certify
from mirst.evaluation.progress import OnProgress, no_progress
from mirst.files import write_text
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of


def certify_in_parts(
    folder: Path,
    model: nn.Module,
    data: Loader,
    eps: Sequence[float],
    *,
    images: int,
    on_progress: OnProgress = no_progress,
    **settings: Any,
) -> pd.DataFrame:
    """The rows of `certify`, with a file for each batch in `folder`, which a later call with the same inputs reads.

    The name of a file is a digest of all inputs, the logits of its images among them, so no other call reads it. The
    last batch removes the files.

    Args:
        images: number of images in `data`, for the progress.
        settings: the other arguments of `certify`.

    Raises:
        MirstError, RuntimeError: as `certify`; or a file cannot be written.
    """
    tables: list[pd.DataFrame] = []
    files: list[Path] = []
    inputs, done = _digest(model, [*eps, *sorted(settings.items())]), 0
    for x, y in data:
        file = folder / f"{_of_batch(inputs, model, x, y)}.json"
        if not file.exists():
            rows = certify(model, [(x, y)], eps, on_progress=_Shifted(on_progress, done, images), **settings)
            write_text(file, json.dumps(rows.to_dict("list")))
        rows = pd.DataFrame(json.loads(file.read_text(encoding="utf-8")))
        tables.append(rows.assign(image=rows["image"] + done))
        files.append(file)
        done += len(y)
    together = pd.concat(tables, ignore_index=True) if tables else certify(model, [], eps, **settings)
    for file in files:
        file.unlink(missing_ok=True)
    return together.sort_values("eps", key=lambda column: column.map(list(eps).index), kind="stable", ignore_index=True)


@dataclass(frozen=True)
class _Shifted:
    """Receives the progress on a batch, and passes that on all images."""

    on_progress: OnProgress
    done: int
    images: int

    def __call__(self, progress: Any) -> None:
        self.on_progress(progress._replace(done=self.done + progress.done, images=self.images))


def _digest(model: nn.Module, settings: Sequence[Any]) -> bytes:
    digest = hashlib.sha256(repr([version("mirst"), str(model), *settings]).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(name.encode() + _bytes(tensor))
    return digest.digest()


def _of_batch(inputs: bytes, model: nn.Module, x: Tensor, y: Tensor) -> str:
    logits = logits_of(model, x.to(device_of(model)))
    return hashlib.sha256(b"".join([inputs, *map(_bytes, (x, y, logits))])).hexdigest()[:32]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
