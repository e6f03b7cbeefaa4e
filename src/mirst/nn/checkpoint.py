"""Trained models as one safetensors file each: weights, and what one must know to use them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.files import atomic
from mirst.nn.models import Normalized, build_model


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What one must know to use a trained model."""

    model: str
    """Its name for `build_model`."""
    drop_max: bool
    channels: int
    size: int
    """Side of the letterboxed input image."""
    classes: tuple[str, ...]
    """In the order of the logits."""
    positive: str
    threshold: float
    """Operating point on the log-odds of `positive`, for two classes; 0 is the larger logit."""
    defense: str
    """How it was trained."""


def save_model(path: str | Path, model: nn.Module, card: ModelCard) -> None:
    """Write weights and card to `path`, whole or not at all."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    with atomic(path) as partial:
        save_file(state, partial, metadata={"mirst": json.dumps(asdict(card))})


def load_model(path: str | Path) -> tuple[nn.Module, ModelCard]:
    """The model in eval mode, and its card. Nothing is unpickled.

    Raises:
        MirstError: no file, not a checkpoint of ours, or weights that do not fit the card.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        fields = json.loads(metadata["mirst"])
        card = ModelCard(**(fields | {"classes": tuple(fields["classes"])}))
        model = build_model(card.model, card.channels, len(card.classes), card.drop_max)
        model.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise MirstError(f"{path} is no checkpoint written by mirst ({error})") from error
    except RuntimeError as error:
        raise MirstError(
            f"the weights in {path} do not fit its model: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval(), card


def load_backbone(model: nn.Module, path: str | Path) -> None:
    """Start `model` from the weights in a state-dict file of torchvision's layout, its head excepted.

    Args:
        path: `.safetensors`, or a `.pth` file (read with `weights_only=True`).

    Raises:
        MirstError: the file cannot be read safely, or lacks a weight of the backbone.
    """
    network = model.network if isinstance(model, Normalized) else model
    source = _read_state(Path(path))
    own = network.state_dict()
    fitting = {key: value for key, value in source.items() if key in own and own[key].shape == value.shape}
    missing = [key for key in own if key not in fitting and not key.startswith("fc.")]
    if missing:
        raise MirstError(
            f"model.weights: {path} lacks {len(missing)} of {len(own)} backbone weights, the first {missing[0]}; "
            "give a checkpoint of the same network"
        )
    network.load_state_dict(fitting, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise MirstError(
            f"model.weights: {path} does not exist; name a state-dict file of torchvision's layout, or random"
        )
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:
        raise MirstError(f"model.weights: {path} cannot be read as a state dict ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise MirstError(f"model.weights: {path} holds no plain state dict of tensors")
    return state
