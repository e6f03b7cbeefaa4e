"""A trained model in the formats of other programs."""

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from mirst.errors import MirstError
from mirst.files import atomic
from mirst.nn import ModelCard, Normalized, load_model, plainly


def export_model(checkpoint: Path, to: str, out: Path) -> Path:
    """Write the model of a checkpoint of ours to `out`, its card with it.

    Every format but `safetensors` holds the whole model, from `(N, channels, size, size)` images in [0, 1], any `N`,
    to `(N, classes)` logits, input normalisation and drop-max included.

    Args:
        to: a key of `FORMATS`.

    Raises:
        MirstError: a checkpoint that cannot be read, an unknown format, or one whose extra is not installed.
    """
    if to not in FORMATS:
        raise MirstError(f"--to is {to}; choose {', '.join(FORMATS)}")
    model, card = load_model(checkpoint)
    with plainly(), torch.no_grad(), warnings.catch_warnings():  # in operations that every exporter knows
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        FORMATS[to](model, card, out)
    return out


def _onnx(model: nn.Module, card: ModelCard, out: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter asks for it late, and in another way
    except ImportError as error:
        raise MirstError("--to onnx needs onnx; pip install 'mirst[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which we do without
    program = torch.onnx.export(
        model,
        (_images(card),),
        dynamo=True,
        dynamic_shapes=_ANY_BATCH,
        input_names=["image"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"mirst": _told(card)})
    onnx.checker.check_model(proto)
    with atomic(out) as partial:
        partial.write_bytes(proto.SerializeToString())


def _torch_export(model: nn.Module, card: ModelCard, out: Path) -> None:
    program = torch.export.export(model, (_images(card),), dynamic_shapes=_ANY_BATCH)
    with atomic(out) as partial:
        named = partial.with_suffix(".pt2")  # torch insists on it
        torch.export.save(program, named, extra_files={"mirst": _told(card)})
        named.replace(partial)


def _safetensors(model: nn.Module, card: ModelCard, out: Path) -> None:
    """The network's weights under its own names, torchvision's for its ResNets; mean and std go into the metadata."""
    network, told = model, asdict(card)
    if isinstance(model, Normalized):
        network = model.network
        told |= {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    with atomic(out) as partial:
        partial.write_bytes(save(weights, metadata={"format": "pt", "mirst": json.dumps(told)}))


FORMATS: dict[str, Callable[[nn.Module, ModelCard, Path], None]] = {
    "onnx": _onnx,
    "torch-export": _torch_export,
    "safetensors": _safetensors,
}

_ANY_BATCH: Any = ({0: torch.export.Dim("batch", min=1)},)


def _images(card: ModelCard) -> torch.Tensor:
    """Two, since one would be taken for a constant."""
    return torch.rand(2, card.channels, card.size, card.size)


def _told(card: ModelCard) -> str:
    return json.dumps(asdict(card))
