"""The computations behind the page: an attack on one image and one model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mirst.app.probabilities import class_set, probabilities
from mirst.app.training_images import NO_STUDY, Training
from mirst.attacks import APGD, CW, FGSM, PGD, Attack, Square
from mirst.attacks.base import attackable
from mirst.attacks.descent import gradient_of, iterates, last
from mirst.attacks.losses import margin
from mirst.bounds import largest_certified_eps
from mirst.box_code import without_box
from mirst.data import Box, LesionCrop, letterbox
from mirst.errors import MirstError
from mirst.evaluation.judge import at_threshold, decide, judge, shifted
from mirst.evaluation.outcomes import checked_distance
from mirst.evaluation.predictions import crops_for
from mirst.nn import ModelCard, load_model
from mirst.nn.device import default_device, device_of
from mirst.nn.logits import logits_of, misclassified, require_logits
from mirst.report.paper_figures import residual_maps

Picture = NDArray[np.uint8]
"""`(H, W)` or `(H, W, 3)`, 0 to 255."""

SHOWN = 256
"""Images are enlarged to at least this many pixels a side, without interpolation."""
LARGEST, LEVELS, STEPS, MOST_STEPS = 16 / 255, 16, 20, 100

ATTACKS: dict[str, Callable[[float, int], Attack]] = {
    "PGD": lambda eps, steps: PGD(eps=eps, steps=steps, step_size=_step_size(eps, steps)),
    "FGSM (one step)": lambda eps, _: FGSM(eps=eps),
    "CW (PGD on the margin)": lambda eps, steps: CW(eps=eps, steps=steps, step_size=_step_size(eps, steps)),
    "APGD (adapts its step size)": lambda eps, steps: APGD(eps=eps, steps=steps),
    "Square (no gradients; five queries a step)": lambda eps, steps: Square(eps=eps, queries=5 * steps),
}
"""Constructors from eps and steps, by the name on the page."""


@dataclass(frozen=True)
class ExploredModel:
    """A model of a checkpoint, with the title that the page shows."""

    title: str
    model: nn.Module
    card: ModelCard
    training: Training = NO_STUDY

    def sees(self, box: Box | None) -> bool:
        """Whether the model can classify an image with this box.

        One that takes crops around lesions needs a box, unless training images without a box were shown whole.
        """
        return box is not None or "whole" in (self.card.view, self.card.without_box)

    @property
    def at_threshold(self) -> nn.Module:
        """The model with its operating threshold at equal logits, so that attacks cross the threshold."""
        return at_threshold(self.model, self.card.positive_index, self.card.threshold)


@dataclass(frozen=True)
class View:
    """An image before and after an attack on one model."""

    seen: ClassVar[bool] = True
    explored: ExploredModel
    predictions: tuple[str, str]
    """Before and after the attack."""
    probabilities: tuple[dict[str, float], dict[str, float]]
    """By class, before and after the attack; calibrated if the card has a calibration."""
    class_set: tuple[str, ...] | None
    """The classes that may be the true one before the attack, at `COVERAGE`; `None` without a calibration."""
    clean: Picture
    perturbation: Picture
    """Red is brighter, blue is darker; full colour is eps."""
    attacked: Picture
    residuals: dict[str, Picture]
    """By pooling; empty for a model without one."""
    distance: float
    """The largest change of a pixel, in units of the pixel range."""

    @property
    def flipped(self) -> bool:
        return self.predictions[0] != self.predictions[1]

    def outcome(self, truth: str | None) -> Literal["unchanged", "misled", "corrected", "changed"]:
        """What the attack did: `misled` from the true class to another, `corrected` from another to the true class.

        `changed` from one wrong class to another, or if the model does not know the class `truth`.
        """
        if not self.flipped:
            return "unchanged"
        if truth == self.predictions[0]:
            return "misled"
        return "corrected" if truth == self.predictions[1] else "changed"


@dataclass(frozen=True)
class Unseen:
    """A model of crops that needs the box of the lesion, for an image without one: nothing is classified."""

    seen: ClassVar[bool] = False
    explored: ExploredModel


def open_explored_model(path: Path, trusted: str | None = None) -> ExploredModel:
    """The model of a checkpoint.

    Args:
        trusted: as for `load_model`.

    Raises:
        MirstError: it cannot be read.
    """
    model, card = load_model(path, trusted)
    name = path.parent.name if path.stem == "model" else path.stem
    return ExploredModel(name, model.to(default_device()), card)


def prepared(image: Image.Image, card: ModelCard, box: Box | None = None) -> Tensor:
    """The image as the model takes it, `(1, C, size, size)` in [0, 1].

    Args:
        box: of the lesion, in pixels of the image; a model that takes whole images ignores it.

    Raises:
        MirstError: no box for a model of crops that needs one, or a box outside of the image.
    """
    image = image.convert("L" if card.channels == 1 else "RGB")
    if card.view == "lesion":
        if box is None and card.without_box == "drop":
            raise MirstError("the model takes crops around lesions; draw the box of the lesion")
        return crops_for(card, [LesionCrop.of(image, box, card.size, card.margin)])
    fitted = letterbox(image, card.size)
    pixels = np.atleast_3d(np.asarray(fitted)).transpose(2, 0, 1)
    return torch.from_numpy(pixels.copy())[None].float() / 255


def prediction(explored: ExploredModel, image: Image.Image, box: Box | None = None) -> str | None:
    """The predicted class at the operating threshold; `None` if the logits are not finite, or the model lacks a box."""
    if not explored.sees(box):
        return None
    logits = _logits(explored, _input(explored, image, box))
    return explored.card.classes[int(_predicted(explored, logits))] if logits.isfinite().all() else None


def attack_image(
    explored: ExploredModel, image: Image.Image, attack: str, eps: float, steps: int, box: Box | None = None
) -> View:
    """Attack the pixels that the model sees, with the model's own prediction as its label.

    Args:
        attack: a key of `ATTACKS`.
        eps: in units of the pixel range.
        box: as for `prepared`.

    Raises:
        MirstError: an unknown attack, values out of range, or as `prepared`.
    """
    if attack not in ATTACKS:
        raise MirstError(f"unknown attack {attack}; choose {', '.join(ATTACKS)}")
    if not (0 <= eps <= LARGEST and 1 <= steps <= MOST_STEPS):
        raise MirstError(f"eps is {255 * eps:g}/255 and steps {steps}; choose at most 16/255 and {MOST_STEPS}")
    x = _input(explored, image, box)
    logits = _logits(explored, x)
    label = _predicted(explored, logits)
    attacked = ATTACKS[attack](eps, steps)(
        explored.at_threshold, x, label.to(x.device), generator=torch.Generator().manual_seed(0)
    )
    distance = checked_distance(attack, x, attacked, eps)
    after = _logits(explored, attacked)
    _, flipped = judge(after, label, explored.card.positive_index, explored.card.threshold)
    classes = explored.card.classes
    return View(
        explored,
        (classes[int(label)], classes[int(flipped)]),
        (probabilities(explored.card, logits), probabilities(explored.card, after)),
        class_set(explored.card, logits),
        _gray(x),
        _signed(without_box(attacked - x)[0].mean(0), eps),
        _gray(attacked),
        _residuals(explored.model, x, attacked),
        float(distance),
    )


def smallest_eps(explored: ExploredModel, image: Image.Image, box: Box | None = None) -> float | None:
    """The smallest eps, up to 16/255, at which PGD on the margin flips the model's prediction: an upper bound.

    It tries sixteen radii at once, then sixteen more just below the smallest that flips. This is fast enough for the
    page; `mirst.evaluation.distances` searches longer. `None` if no radius flips the prediction, or if
    the model lacks a box.
    """
    if not explored.sees(box):
        return None
    x = _input(explored, image, box)
    label = _predicted(explored, _logits(explored, x))
    coarse = _first_flipping(explored, x, label, 0.0, LARGEST)
    if coarse is None:
        return None
    return _first_flipping(explored, x, label, coarse - LARGEST / LEVELS, coarse) or coarse


def certified_eps(explored: ExploredModel, image: Image.Image, box: Box | None = None) -> float | None:
    """The largest eps, by interval bounds, within which no change of the pixels alters the prediction: a lower bound.

    0 if there is a certificate at no eps. `None` for a model that has no bounds, such as one that draws at random or
    has a layer without a rule, and if the model lacks a box.
    """
    if not explored.sees(box):
        return None
    x = _input(explored, image, box)
    logits = _logits(explored, x)
    if not logits.isfinite().all():
        return None
    positive, threshold = explored.card.positive_index, explored.card.threshold
    try:
        found = largest_certified_eps(
            explored.model, x, _predicted(explored, logits), positive=positive, threshold=threshold
        )
    except MirstError:
        return None
    return float(found)


def _first_flipping(explored: ExploredModel, x: Tensor, label: Tensor, low: float, high: float) -> float | None:
    """The smallest of evenly spaced radii in (low, high] that flips the prediction."""
    radii = torch.linspace(low, high, LEVELS + 1)[1:]
    eps = radii.to(x.device).view(-1, 1, 1, 1)
    many, labels = x.expand(len(radii), *x.shape[1:]), label.to(x.device).expand(len(radii))
    with attackable(explored.at_threshold, many, labels) as (net, _, _):
        gradient = gradient_of(lambda images: margin(net(images), labels))
        attacked = last(iterates(gradient, many, eps=eps, step_size=2.5 * eps / STEPS, steps=STEPS))
    logits = shifted(_logits(explored, attacked), explored.card.positive_index, explored.card.threshold)
    flipped = misclassified(logits, labels.cpu())
    return float(radii[flipped][0]) if flipped.any() else None


def _input(explored: ExploredModel, image: Image.Image, box: Box | None) -> Tensor:
    """`prepared`, on the device of the model."""
    return prepared(image, explored.card, box).to(device_of(explored.model))


def _logits(explored: ExploredModel, x: Tensor) -> Tensor:
    """On the CPU."""
    return require_logits(logits_of(explored.model, x), len(x), len(explored.card.classes)).cpu()


def _predicted(explored: ExploredModel, logits: Tensor) -> Tensor:
    """The index of the predicted class at the operating threshold, `(N,)`."""
    return decide(logits, explored.card.positive_index, explored.card.threshold)[1]


def _step_size(eps: float, steps: int) -> float:
    """All steps together are 2.5 * eps long; never 0."""
    return max(2.5 * eps / steps, 1e-6)


def _residuals(model: nn.Module, x: Tensor, attacked: Tensor) -> dict[str, Picture]:
    try:
        maps = residual_maps(model, x, attacked)
    except MirstError:
        return {}
    limit = max(float(change.abs().max()) for change in maps.values())
    return {pooling: _signed(change[0], limit) for pooling, change in maps.items()}


def _gray(x: Tensor) -> Picture:
    return _enlarged((without_box(x)[0] * 255).round().byte().permute(1, 2, 0).squeeze(-1).cpu().numpy())


def _signed(values: Tensor, limit: float) -> Picture:
    """Values in [-limit, limit] from blue over white to red."""
    colours: Any = colormaps["RdBu_r"](0.5 + values.cpu().numpy() / (2 * limit or 1.0))
    return _enlarged((colours[..., :3] * 255).round().astype(np.uint8))


def _enlarged(picture: Picture) -> Picture:
    times = -(-SHOWN // min(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1)
