"""Trained models as one safetensors file each: weights, and what one must know to use them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from mirst.errors import MirstError
from mirst.files import atomic
from mirst.nn.models import build_model


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
        partial.write_bytes(save(state, metadata={"mirst": json.dumps(asdict(card))}))


def load_model(path: str | Path) -> tuple[nn.Module, ModelCard]:
    """The model in eval mode, and its card. Nothing is unpickled.

    Raises:
        MirstError: no file, not a checkpoint of ours, or weights that do not fit the card.
    """
    card = read_card(path)
    try:
        model = build_model(card.model, card.channels, len(card.classes), card.drop_max)
        with safe_open(path, "pt") as file:
            model.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (not a mapping)
    except RuntimeError as error:
        raise MirstError(
            f"the weights in {path} do not fit its model: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval(), card


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint alone.

    Raises:
        MirstError: no file, or not a checkpoint of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            fields = json.loads((file.metadata() or {})["mirst"])
        return ModelCard(**(fields | {"classes": tuple(fields["classes"])}))
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise MirstError(f"{path} is no checkpoint written by mirst ({error})") from error
