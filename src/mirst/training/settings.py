"""How long and how fast to train, and what changes from epoch to epoch."""

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from mirst.defenses import CE, Defense
from mirst.errors import MirstError


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of `fit`.

    The defaults suit training from random weights, where adversarial training without a clean
    warm-up collapses to the majority class.

    Raises:
        MirstError: a field out of range.
    """

    epochs: int = 40
    lr: float = 1e-3
    """Of Adam."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Of the learning rate, from `lr` down to 0 or not at all."""
    warmup: float = 0.2
    """Share of the epochs, the first ones, spent on clean images alone."""
    ramp: float = 0.2
    """Share of the epochs, the next ones, in which eps and step size grow to their full values."""
    class_weights: Literal["balanced", "none"] = "balanced"
    """Weigh classes inversely to their frequency, or all alike."""
    select: Literal["last", "best_robust"] = "last"
    """Keep the last epoch, or the one of largest mean of clean and attacked balanced accuracy on the
    validation images (PGD, 10 steps, at the defense's eps), among those at full eps."""
    threshold: Literal["argmax", "youden"] = "argmax"
    """Operating point for two classes: the larger logit, or the log-odds at which sensitivity plus
    specificity on the clean validation images is largest."""
    fast: bool = True
    """Use every speed-up that changes no result beyond float rounding."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if choices and value not in choices:
                raise MirstError(f"{name} is {value}; choose {' or '.join(choices)}")
        if not isinstance(self.epochs, int):
            raise MirstError(f"epochs is {self.epochs}; it must be a whole number")
        if self.epochs < 1:
            raise MirstError(f"epochs is {self.epochs}; it must be at least 1")
        if not self.lr > 0:
            raise MirstError(f"lr is {self.lr}; it must be positive")
        if not (self.warmup >= 0 and self.ramp >= 0 and self.warmup + self.ramp < 1):
            raise MirstError(
                f"warmup is {self.warmup} and ramp {self.ramp}; they are shares of the epochs and must leave some"
            )

    @property
    def needs_validation(self) -> bool:
        return self.select != "last" or self.threshold != "argmax"

    def lr_at(self, epoch: int) -> float:
        """The learning rate in `epoch`, counted from 0."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2

    def eps_share(self, epoch: int) -> float:
        """The share of the full eps in `epoch`, counted from 0: 0 in the warm-up, 1 after the ramp."""
        warmup, ramp = int(self.warmup * self.epochs), int(self.ramp * self.epochs)
        return min(max((epoch - warmup + 1) / (ramp + 1), 0.0), 1.0)

    def defense_at(self, defense: Defense, epoch: int) -> Defense:
        """`defense` with the eps and the step size of `epoch`; plain training in the warm-up."""
        share = self.eps_share(epoch)
        if share == 1 or not has_field(defense, "eps"):
            return defense
        if share == 0:
            return CE(class_weights=defense.class_weights)
        target: Any = defense
        scaled = {"eps": share * target.eps}
        if getattr(target, "step_size", None) is not None:
            scaled["step_size"] = share * target.step_size
        return _replaced(target, scaled)


def with_class_weights(defense: Defense, counts: list[int]) -> Defense:
    """`defense` with weights inverse to the class counts, unless it has weights or knows none.

    Raises:
        MirstError: a class without images.
    """
    if not has_field(defense, "class_weights") or defense.class_weights is not None:
        return defense
    if not all(counts):
        raise MirstError(f"class {counts.index(0)} has no training images; give some or set class_weights to none")
    return _replaced(defense, {"class_weights": tuple(sum(counts) / (len(counts) * n) for n in counts)})


def has_field(defense: Defense, name: str) -> bool:
    return is_dataclass(defense) and name in {field.name for field in fields(defense)}


def _replaced(defense: Any, changes: dict[str, Any]) -> Defense:
    changed: Defense = replace(defense, **changes)
    return changed
