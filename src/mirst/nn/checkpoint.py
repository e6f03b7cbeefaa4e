"""Checkpoints: one safetensors file for each trained model, with its weights and its card."""

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from mirst.calibration import Calibration
from mirst.errors import MirstError, plain
from mirst.files import atomic
from mirst.nn.box_fusion import BoxFusion
from mirst.nn.ensemble import MAX_MEMBERS, Ensemble
from mirst.nn.libraries import network_in_words
from mirst.nn.models import MAX_CLASSES, build_model
from mirst.untrusted.safetensors_files import COUNTER, open_tensors

Name = Annotated[str, Field(min_length=1, max_length=200)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | int | Finite | Annotated[str, Field(max_length=200)] | None
Option = Scalar | Annotated[list[Scalar | Annotated[list[Scalar], Field(max_length=100)]], Field(max_length=100)]
Options = Annotated[dict[Name, Option], Field(max_length=50)]
"""Of a model, as they are in a study and in a card."""


@dataclass(frozen=True, kw_only=True)
class CertifiedMetrics:
    """Metrics of a model that no attack on its test images within eps can fall below.

    >>> CertifiedMetrics(eps=5 / 255, method="interval", images=130, metrics={"f1": 0.64}).images
    130
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    eps: Annotated[float, Field(gt=0, le=1)]
    """In units of the [0, 1] pixel range."""
    method: Name
    """Of the bounds, a key of `mirst.bounds.METHODS`."""
    images: Annotated[int, Field(ge=1)]
    metrics: dict[Name, Annotated[float, Field(ge=0, le=1)]]
    """By name, without those that are undefined."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is needed to use a trained model. The bounds are checked when a card is read.

    >>> card = ModelCard(
    ...     model="resnet_tiny", drop_max=True, channels=1, size=64, classes=("benign", "malignant"),
    ...     positive="malignant", threshold=0.0, defense="CE()",
    ... )
    >>> save_model("model.safetensors", build_model("resnet_tiny", 1, 2, drop_max=True), card)
    >>> model, loaded = load_model("model.safetensors")
    >>> loaded == card
    True
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    model: Name
    """Its name for `build_model`."""
    drop_max: bool
    channels: int
    size: Annotated[int, Field(ge=16, le=2048)]
    """Side of the input image."""
    classes: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_CLASSES)]
    """In the order of the logits."""
    positive: str | None
    """`None` with more than two classes of which none is special."""
    threshold: Finite
    """Operating point on the log-odds of `positive`, for two classes; 0 is the larger logit."""
    defense: Annotated[str, Field(max_length=2000)]
    """How it was trained."""
    threshold_rule: Annotated[str, Field(max_length=200)] | None = None
    """Which rule gave the threshold, as `training.threshold`; `None` in files of older versions."""
    value_range: tuple[Finite, Finite] | None = None
    """The values of its training images that were shown as black and white, if the files define none."""
    view: Literal["whole", "lesion"] = "whole"
    """Whether its input is the whole image, or a square crop around the box of the lesion."""
    margin: Annotated[float, Field(ge=0, le=2)] = 0.3
    """Of the crop, on each side of the box, as a share of its longer side."""
    without_box: Literal["drop", "whole"] = "drop"
    """Whether its training images without a box were left out, or shown whole."""
    box: Literal["none", "fused"] = "none"
    """Whether the box of the lesion is an input, as a `BoxFusion` takes it."""
    bound: Finite | None = None
    """How far the pixels move the log-odds of the box at most; `None` without a box."""
    modality: Annotated[str, Field(max_length=200)] | None = None
    """What its training images were of, as `data.modality`; `None` if the study did not say."""
    members: Annotated[int, Field(ge=1, le=MAX_MEMBERS)] = 1
    """Number of models in the `Ensemble`, whose threshold is 0 since each member has its own; 1: a single model."""
    certified: Annotated[tuple[CertifiedMetrics, ...], Field(max_length=100)] = ()
    """On the test images of its fold, one for each eps; empty without certificates."""
    calibration: Calibration | None = None
    """From its validation images; `None` without any, and in files of older versions."""
    options: Options = field(default_factory=dict, hash=False)
    """For `build_model`, as `model.options`."""

    def entries(self) -> dict[str, Any]:
        """The fields as files have them; optional ones only where there are any."""
        absent = {name for name in ("certified", "calibration", "modality", "options") if not getattr(self, name)}
        return {key: value for key, value in asdict(self).items() if key not in absent}

    @property
    def inputs(self) -> int:
        """Channels of the input: those of the image, and the box code."""
        return self.channels + (self.box == "fused")

    @property
    def network(self) -> str:
        """The name of the model with its options."""
        return network_in_words(self.model, self.options)

    @property
    def view_in_words(self) -> str:
        """What the model sees of an image."""
        return view_in_words(self.view, self.margin)

    @property
    def positive_index(self) -> int:
        """The place among the logits of the class whose log-odds are the score: `positive`, or else the first."""
        return 0 if self.positive is None else self.classes.index(self.positive)


def view_in_words(view: str, margin: float) -> str:
    """What a model with these settings sees of an image.

    >>> view_in_words("lesion", 0.3)
    'a square around the box of the lesion, with a margin of 30 % of its longer side'
    """
    if view == "whole":
        return "the whole image, letterboxed"
    return f"a square around the box of the lesion, with a margin of {margin:.0%} of its longer side".replace("%", " %")


_CARD = TypeAdapter(ModelCard)


def save_model(path: str | Path, model: nn.Module, card: ModelCard) -> None:
    """Write weights and card to `path`. On an error no partial file remains."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    with atomic(path) as partial:
        partial.write_bytes(save(state, metadata={"mirst": json.dumps(card.entries())}))


def load_model(path: str | Path, trusted: str | None = None) -> tuple[nn.Module, ModelCard]:
    """The model in eval mode, and its card. No pickle is loaded.

    Args:
        trusted: the `package.module:factory` or `LIBRARY:NETWORK` whose code may run. A checkpoint that needs
            another factory is an error, and nothing is imported.

    Raises:
        MirstError: no file, not a checkpoint written by mirst, a factory that is not `trusted`, or weights that do
            not fit the card.
    """
    card = read_card(path)
    if ":" in card.model and card.model != trusted:
        raise MirstError(
            f"{path} needs a model built by {card.network}, whose code is not in the file; if you trust that code, "
            f"add --trust {card.model}"
        )
    try:
        member = _member(card)
        with open_tensors(path) as file:
            _require_fitting(file, _shapes(card, member))  # before the other members take memory
            model = member if card.members == 1 else _ensemble(card, member)
            model.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118 (not a mapping)
    except (RuntimeError, SafetensorError) as error:
        raise MirstError(
            f"the weights in {path} do not fit its model: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval(), card


def read_card(path: str | Path) -> ModelCard:
    """The card of a checkpoint, without its weights.

    Raises:
        MirstError: no file, or not a checkpoint written by mirst.
    """
    if Path(path).is_dir():
        raise MirstError(f"{path} is a folder; give the file of a model, such as TRIAL/model.safetensors")
    try:
        with open_tensors(path) as file:
            card = _CARD.validate_json((file.metadata() or {})["mirst"])
        _require_sound(card)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "card"
        raise MirstError(f"{path} is not a checkpoint written by mirst (its {place}: {first['msg']})") from error
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise MirstError(f"{path} is not a checkpoint written by mirst ({error})") from error
    return card


def _member(card: ModelCard) -> nn.Module:
    """The model, or a member of the ensemble, untrained."""
    model = build_model(card.model, card.channels, len(card.classes), card.drop_max, card.options)
    if card.bound is None:
        return model
    return BoxFusion(model, card.positive_index, card.bound)


def _ensemble(card: ModelCard, member: nn.Module) -> Ensemble:
    members = [member, *(copy.deepcopy(member) for _ in range(card.members - 1))]
    return Ensemble(members, [0.0] * card.members if len(card.classes) == 2 else None, card.positive_index)


def _shapes(card: ModelCard, member: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of every tensor of the model by name."""
    own = {key: tuple(value.shape) for key, value in member.state_dict().items()}
    if card.members == 1:
        return own
    columns = 2 if len(card.classes) == 2 else 1
    every = {f"members.{number}.{key}": shape for number in range(card.members) for key, shape in own.items()}
    return every | {"shift": (card.members, columns)}


def _require_sound(card: ModelCard) -> None:
    if card.channels not in (1, 3):
        raise ValueError(f"its channels are {card.channels}")
    if card.value_range is not None and not card.value_range[0] <= card.value_range[1]:
        raise ValueError("its value range ends below its start")
    known = card.positive in card.classes or (card.positive is None and len(card.classes) > 2)
    if len(set(card.classes)) < len(card.classes) or not known:
        raise ValueError("its classes are not distinct, or the positive one is not among them")
    if (card.box == "fused") != (card.bound is not None):
        raise ValueError(f"its box is {card.box}, but its bound is {card.bound}")
    if card.bound is not None and (card.bound <= 0 or len(card.classes) != 2):
        raise ValueError("it takes a box, which needs two classes and a bound above 0")
    if card.members > 1 and card.threshold != 0:
        raise ValueError(f"it has {card.members} members, but its threshold is {card.threshold}")
    if card.calibration is not None:
        card.calibration.require_classes(len(card.classes))
    if any(
        plain(text) != text
        for text in (card.network, card.defense, card.threshold_rule or "", card.modality or "", *card.classes)
    ):
        raise ValueError("its card contains control characters")


def _require_fitting(file: Any, own: dict[str, tuple[int, ...]]) -> None:
    """Compare names and shapes before any tensor is read."""
    there = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    lacking = {key for key in own.keys() - there.keys() if key.endswith(COUNTER)}
    different = sorted(key for key in (own.keys() | there.keys()) - lacking if own.get(key) != there.get(key))
    if different:
        first = different[0]
        raise RuntimeError(
            f"{len(different)} tensors differ, the first {first}: {there.get(first, 'missing')} in the file, "
            f"{own.get(first, 'none')} in the model"
        )
