"""What an attack does to one image and one model: all that the page shows, without the page."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mirst.attacks import APGD, CW, FGSM, PGD, Attack, Square
from mirst.attacks.base import attackable
from mirst.attacks.descent import gradient_of, iterates, last
from mirst.attacks.losses import margin
from mirst.data import letterbox
from mirst.errors import MirstError
from mirst.evaluation.judge import at_threshold, decide, judge, shifted
from mirst.evaluation.outcomes import checked_distance
from mirst.nn import ModelCard, load_model
from mirst.nn.logits import logits_of, misclassified, require_logits
from mirst.report.paper_figures import residual_maps

Picture = NDArray[np.uint8]
"""`(H, W)` or `(H, W, 3)`, 0 to 255."""

SHOWN = 256
"""Pictures are enlarged to at least so many pixels a side, pixel by pixel."""
LARGEST, LEVELS, STEPS, MOST_STEPS = 16 / 255, 16, 20, 100

ATTACKS: dict[str, Callable[[float, int], Attack]] = {
    "PGD": lambda eps, steps: PGD(eps=eps, steps=steps, step_size=_step_size(eps, steps)),
    "FGSM (one step)": lambda eps, _: FGSM(eps=eps),
    "CW (PGD on the margin)": lambda eps, steps: CW(eps=eps, steps=steps, step_size=_step_size(eps, steps)),
    "APGD (adapts its steps)": lambda eps, steps: APGD(eps=eps, steps=steps),
    "Square (no gradients; five queries a step)": lambda eps, steps: Square(eps=eps, queries=5 * steps),
}
"""By the name that visitors choose, from eps and steps."""


@dataclass(frozen=True)
class Subject:
    """A model to look at."""

    title: str
    model: nn.Module
    card: ModelCard

    @property
    def positive(self) -> int:
        return self.card.classes.index(self.card.positive)

    @property
    def at_threshold(self) -> nn.Module:
        """The model with its operating point at equal logits: what attacks push over the line is what decides."""
        return at_threshold(self.model, self.positive, self.card.threshold)

    @property
    def cut(self) -> float | None:
        """The probability of the positive class from which on it is the answer; `None` for more than two classes."""
        return 1 / (1 + math.exp(-self.card.threshold)) if len(self.card.classes) == 2 else None


@dataclass(frozen=True)
class View:
    """An image before and after an attack on one model."""

    subject: Subject
    answers: tuple[str, str]
    """Before and after."""
    probabilities: tuple[dict[str, float], dict[str, float]]
    """By class, before and after."""
    clean: Picture
    perturbation: Picture
    """Red brighter, blue darker, full colour at eps."""
    attacked: Picture
    residuals: dict[str, Picture]
    """By pooling; empty for a model without one."""
    distance: float
    """The largest change of a pixel, in units of the pixel range."""

    @property
    def turned(self) -> bool:
        return self.answers[0] != self.answers[1]


def open_subject(path: Path, trusted: str | None = None) -> Subject:
    """A checkpoint of ours.

    Args:
        trusted: as for `load_model`.

    Raises:
        MirstError: it cannot be read.
    """
    model, card = load_model(path, trusted)
    name = path.parent.name if path.stem == "model" else path.stem
    return Subject(name, model, card)


def prepared(image: Image.Image, card: ModelCard) -> Tensor:
    """The image as the model takes it, `(1, C, size, size)` in [0, 1]."""
    fitted = letterbox(image.convert("L" if card.channels == 1 else "RGB"), card.size)
    pixels = np.atleast_3d(np.asarray(fitted)).transpose(2, 0, 1)
    return torch.from_numpy(pixels.copy())[None].float() / 255


def answer(subject: Subject, image: Image.Image) -> str | None:
    """The class that the model gives to the image at its operating point; `None` where its logits are not finite."""
    logits = _logits(subject, prepared(image, subject.card))
    return subject.card.classes[int(_decided(subject, logits))] if logits.isfinite().all() else None


def view(subject: Subject, image: Image.Image, attack: str, eps: float, steps: int) -> View:
    """Attack the model's own answer to the image.

    Args:
        attack: a key of `ATTACKS`.
        eps: in units of the pixel range.

    Raises:
        MirstError: an unknown attack, or values that it refuses.
    """
    if attack not in ATTACKS:
        raise MirstError(f"{attack} is no attack; choose {', '.join(ATTACKS)}")
    if not (0 <= eps <= LARGEST and 1 <= steps <= MOST_STEPS):
        raise MirstError(f"eps is {255 * eps:g}/255 and steps {steps}; up to 16/255 and {MOST_STEPS} are offered")
    x = prepared(image, subject.card)
    logits = _logits(subject, x)
    own = _decided(subject, logits)
    moved = ATTACKS[attack](eps, steps)(subject.at_threshold, x, own, generator=torch.Generator().manual_seed(0))
    distance = checked_distance(attack, x, moved, eps)
    after = _logits(subject, moved)
    _, turned = judge(after, own, subject.positive, subject.card.threshold)
    classes = subject.card.classes
    return View(
        subject,
        (classes[int(own)], classes[int(turned)]),
        (_probabilities(subject, logits), _probabilities(subject, after)),
        _gray(x),
        _signed((moved - x)[0].mean(0), eps),
        _gray(moved),
        _residuals(subject.model, x, moved),
        float(distance),
    )


def smallest_eps(subject: Subject, image: Image.Image) -> float | None:
    """The smallest eps, up to 16/255, at which PGD on the margin turns the model's answer: an upper bound.

    Sixteen radii at once, then sixteen more below the first that did: what a visitor can wait for, where
    `mirst.evaluation.distances` searches for longer. `None` where none did.
    """
    x = prepared(image, subject.card)
    own = _decided(subject, _logits(subject, x))
    found = _first_turned(subject, x, own, 0.0, LARGEST)
    if found is None:
        return None
    return _first_turned(subject, x, own, found - LARGEST / LEVELS, found) or found


def _first_turned(subject: Subject, x: Tensor, own: Tensor, low: float, high: float) -> float | None:
    """Of radii evenly spaced above `low` up to `high`, the smallest that suffices."""
    radii = torch.linspace(low, high, LEVELS + 1)[1:]
    turned = _turned(subject, x, own, radii)
    return float(radii[turned][0]) if turned.any() else None


def _turned(subject: Subject, x: Tensor, own: Tensor, radii: Tensor) -> Tensor:
    """Which radii suffice, `(len(radii),)`."""
    eps = radii.view(-1, 1, 1, 1)
    many, labels = x.expand(len(radii), *x.shape[1:]), own.expand(len(radii))
    with attackable(subject.at_threshold, many, labels) as (net, _, _):
        gradient = gradient_of(lambda images: margin(net(images), labels))
        moved = last(iterates(gradient, many, eps=eps, step_size=2.5 * eps / STEPS, steps=STEPS))
    logits = shifted(_logits(subject, moved), subject.positive, subject.card.threshold)
    return misclassified(logits, labels).cpu()


def _logits(subject: Subject, x: Tensor) -> Tensor:
    return require_logits(logits_of(subject.model, x), len(x), len(subject.card.classes))


def _decided(subject: Subject, logits: Tensor) -> Tensor:
    """The index of the class at the operating point, `(N,)`."""
    return decide(logits, subject.positive, subject.card.threshold)[1]


def _probabilities(subject: Subject, logits: Tensor) -> dict[str, float]:
    """By class; 0 where the logits are not finite."""
    shares = logits.softmax(1)[0].nan_to_num(0.0).tolist()
    return dict(zip(subject.card.classes, shares, strict=True))


def _step_size(eps: float, steps: int) -> float:
    """Two and a half times the way to the edge, in all; not 0 at eps 0."""
    return max(2.5 * eps / steps, 1e-6)


def _residuals(model: nn.Module, x: Tensor, moved: Tensor) -> dict[str, Picture]:
    try:
        maps = residual_maps(model, x, moved)
    except MirstError:
        return {}
    limit = max(float(one.abs().max()) for one in maps.values())
    return {pooling: _signed(one[0], limit) for pooling, one in maps.items()}


def _gray(x: Tensor) -> Picture:
    return _enlarged((x[0] * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy())


def _signed(values: Tensor, limit: float) -> Picture:
    """Values in [-limit, limit] from blue over white to red."""
    colours: Any = colormaps["RdBu_r"](0.5 + values.numpy() / (2 * limit or 1.0))
    return _enlarged((colours[..., :3] * 255).round().astype(np.uint8))


def _enlarged(picture: Picture) -> Picture:
    times = -(-SHOWN // min(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1)
