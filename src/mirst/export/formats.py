"""Export formats of one file, which contains the model and its card."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from mirst.errors import MirstError
from mirst.files import atomic
from mirst.nn import ModelCard, Normalized


def to_onnx(model: nn.Module, card: ModelCard, out: Path) -> None:
    """For ONNX Runtime and other ONNX programs."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter would report it late and in another way
    except ImportError as error:
        raise MirstError("--to onnx needs onnx; pip install 'mirst[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not needed
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
    onnx.helper.set_model_props(proto, {"mirst": _card_json(card)})
    onnx.checker.check_model(proto)
    with atomic(out) as partial:
        partial.write_bytes(proto.SerializeToString())


def to_torch_export(model: nn.Module, card: ModelCard, out: Path) -> None:
    """A program of torch.export."""
    program = torch.export.export(model, (_images(card),), dynamic_shapes=_ANY_BATCH)
    with atomic(out) as partial:
        named = partial.with_suffix(".pt2")  # torch requires this suffix
        torch.export.save(program, named, extra_files={"mirst": _card_json(card)})
        named.replace(partial)


def to_safetensors(model: nn.Module, card: ModelCard, out: Path) -> None:
    """The network's weights under its own names, torchvision's for its ResNets; mean and std go into the metadata."""
    network, metadata = model, asdict(card)
    if isinstance(model, Normalized):
        network = model.network
        metadata |= {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    with atomic(out) as partial:
        partial.write_bytes(save(weights, metadata={"format": "pt", "mirst": json.dumps(metadata)}))


_ANY_BATCH: Any = ({0: torch.export.Dim("batch", min=1)},)


def _images(card: ModelCard) -> torch.Tensor:
    """Two, since a batch size of one would become a constant."""
    return torch.rand(2, card.channels, card.size, card.size)


def _card_json(card: ModelCard) -> str:
    return json.dumps(asdict(card))
