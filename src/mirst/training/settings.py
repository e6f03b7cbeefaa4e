"""How long and how fast to train, and what changes from epoch to epoch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from mirst.defenses import Defense
from mirst.errors import MirstError
from mirst.training.operating_point import OperatingPoint


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of `fit`.

    The defaults suit training from random weights, where adversarial training without a clean
    warm-up collapses to the majority class.

    Raises:
        MirstError: a field out of range, or fields that contradict one another.

    >>> settings = Training(epochs=10, warmup=0.2, ramp=0.2)
    >>> [round(settings.eps_share(epoch), 2) for epoch in (0, 2, 3, 9)]
    [0.0, 0.33, 0.67, 1.0]
    """

    epochs: int = 40
    lr: float = 1e-3
    """Learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Schedule of the learning rate: `cosine` lowers it from `lr` to 0, `constant` does not change it."""
    warmup: float = 0.2
    """Share of the epochs, the first ones, spent on clean images alone."""
    ramp: float = 0.2
    """Share of the epochs, the next ones, in which eps and step size grow to their full values."""
    class_weights: Literal["balanced", "none"] = "balanced"
    """Weigh classes inversely to their frequency, or equally."""
    select: Literal["last", "best_robust", "best_robust_auc"] = "last"
    """Keep the last epoch, or among those at full eps the one whose attacked validation images (PGD, 10 steps, at the
    defense's eps) give the largest mean of clean and attacked balanced accuracy, or for two classes the largest AUC.
    Of equal epochs the latest is kept."""
    threshold: object = "argmax"
    """Operating point for two classes: `argmax`, the larger logit, or a threshold on the log-odds of the positive class
    that is chosen on the validation images: `youden`, where sensitivity plus specificity is largest;
    `{"sensitivity": s}`, the largest with a sensitivity of at least `s`; `{"specificity": s}`, the smallest with a
    specificity of at least `s`. In `{"robust": ...}` one of these three is chosen on the images attacked as in
    `select`."""
    fast: bool = True
    """Use every speed-up that changes no result beyond float rounding."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Adam; AdamW, which decays weights apart from the gradient; or stochastic gradient descent."""
    weight_decay: float = 0.0
    """Weight decay of every parameter, including biases and batch norms. With `adam` and `sgd` it is added to the
    gradient."""
    momentum: float = 0.0
    """Momentum of `sgd`."""
    label_smoothing: float = 0.0
    """Share of the label that is spread evenly over all classes, in the cross-entropies that are trained on."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if get_origin(kind) is Literal and value not in choices:
                raise MirstError(f"{name} is {value}; choose {' or '.join(choices)}")
        if not isinstance(self.epochs, int):
            raise MirstError(f"epochs is {self.epochs}; it must be a whole number")
        if self.epochs < 1:
            raise MirstError(f"epochs is {self.epochs}; it must be at least 1")
        if not self.lr > 0:
            raise MirstError(f"lr is {self.lr}; it must be positive")
        if not (self.warmup >= 0 and self.ramp >= 0 and self.warmup + self.ramp < 1):
            raise MirstError(
                f"warmup is {self.warmup} and ramp {self.ramp}; both are fractions of the epochs, and their sum "
                "must be below 1"
            )

        if not 0 <= self.label_smoothing < 1:
            raise MirstError(f"label_smoothing is {self.label_smoothing}; it must be at least 0 and below 1")
        OperatingPoint.of(self.threshold)
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        if not self.weight_decay >= 0:
            raise MirstError(f"weight_decay is {self.weight_decay}; it must not be negative")
        if not 0 <= self.momentum < 1:
            raise MirstError(f"momentum is {self.momentum}; it must be at least 0 and below 1")
        if self.momentum and self.optimizer != "sgd":
            raise MirstError(
                f"momentum is {self.momentum}, but optimizer {self.optimizer} takes none; set optimizer to sgd or "
                "momentum to 0"
            )
        if self.optimizer == "adamw" and self.weight_decay == 0:
            raise MirstError(
                "optimizer adamw with weight_decay 0 is the same as adam; set weight_decay, for example to 0.01"
            )

    @property
    def operating_point(self) -> OperatingPoint:
        """The rule that `threshold` names."""
        return OperatingPoint.of(self.threshold)

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
        return defense.at_eps_share(self.eps_share(epoch))

    def build_optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of `parameters`, at the learning rate `lr`."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, lr=self.lr, weight_decay=self.weight_decay)
