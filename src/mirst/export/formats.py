"""Export formats of one file, which contains the model and its card."""

import json
import logging
from collections.abc import Sized
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from mirst.errors import MirstError
from mirst.files import atomic
from mirst.nn import BoxFusion, Ensemble, ModelCard, Normalized
from mirst.nn.box_fusion import BoxInput


def to_onnx(model: nn.Module, card: ModelCard, out: Path) -> None:
    """For ONNX Runtime and other ONNX programs."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter would report it late and in another way
    except ImportError as error:
        raise MirstError("--to onnx needs onnx; pip install 'mirst[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not needed
    module, inputs = _with_inputs(model, card)
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        dynamo=True,
        dynamic_shapes=_any_batch(inputs),
        input_names=list(inputs),
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
    module, inputs = _with_inputs(model, card)
    program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=_any_batch(inputs))
    with atomic(out) as partial:
        named = partial.with_suffix(".pt2")  # torch requires this suffix
        torch.export.save(program, named, extra_files={"mirst": _card_json(card)})
        named.replace(partial)


def to_safetensors(model: nn.Module, card: ModelCard, out: Path) -> None:
    """The network's weights under its own names, torchvision's for its ResNets.

    Mean and std go into the metadata, and the buffers of a `BoxFusion`. The names of a member of an ensemble begin with
    its number, as in `0.conv1.weight`; the metadata has an entry for each member in `ensemble`, with what is subtracted
    from its logits as `shift`.
    """
    if isinstance(model, Ensemble):
        members = [_network(member) for member in model.members]
        weights = {f"{number}.{name}": value for number, (own, _) in enumerate(members) for name, value in own.items()}
        shifts = model.shift.tolist()
        buffers: dict[str, Any] = {
            "ensemble": [own | {"shift": shift} for (_, own), shift in zip(members, shifts, strict=True)]
        }
    else:
        weights, buffers = _network(model)
    metadata = {"format": "pt", "mirst": json.dumps(card.entries() | buffers)}
    with atomic(out) as partial:
        partial.write_bytes(save(weights, metadata=metadata))


def _network(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of the network in `model`, and the numbers of the layers around it."""
    network, buffers = model, dict[str, Any]()
    if isinstance(network, BoxFusion):
        buffers |= {name: value.tolist() for name, value in network.named_buffers(recurse=False)}
        network = network.pixels
    if isinstance(network, Normalized):
        buffers |= {"mean": network.mean.flatten().tolist(), "std": network.std.flatten().tolist()}
        network = network.network
    return {name: value.contiguous() for name, value in network.state_dict().items()}, buffers


def inputs_of(card: ModelCard) -> dict[str, str]:
    """What each input of the exported model is, in their order."""
    image = {"image": f"(N, {card.channels}, {card.size}, {card.size}) in [0, 1]: {card.view_in_words}"}
    return image if card.box == "none" else image | {"box": BOX}


BOX = (
    "(N, 2): natural logarithms of box height / box width and of box area / image area, in pixels of the whole image; "
    "NaN where no box is known"
)


def _with_inputs(model: nn.Module, card: ModelCard) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The module to export and its inputs: two of each, since a batch size of one would become a constant."""
    images = torch.rand(2, card.channels, card.size, card.size)
    if card.box == "none":
        return model, {"image": images}
    assert isinstance(model, BoxFusion | Ensemble)  # as the card says
    return BoxInput(model), {"image": images, "box": torch.tensor([[0.0, -2.0], [torch.nan, torch.nan]])}


def _any_batch(inputs: Sized) -> Any:
    batch = torch.export.Dim("batch", min=1, max=2**31 - 1)
    return ({0: batch},) * len(inputs)


def _card_json(card: ModelCard) -> str:
    return json.dumps(card.entries() | {"inputs": inputs_of(card)})
