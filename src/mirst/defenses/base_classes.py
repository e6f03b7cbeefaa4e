"""Base classes that declare how a defense takes a share of its eps, class weights and label smoothing."""

from dataclasses import fields, replace
from typing import Any

from torch import nn

from mirst.defenses.base import Defense, initialise
from mirst.defenses.ce import CE
from mirst.errors import MirstError


class BaseDefense(Defense):
    """Base class of a frozen dataclass with the field `class_weights` and, if it has a ball, the field `eps`.

    With the field `label_smoothing` it can be trained with smoothed labels.

    At a share of its eps, `eps` and the field `step_size`, if it is a number, are multiplied by the share. At share 0
    the defense is plain training, `CE`.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Mine(BaseDefense):
    ...     eps: float = 0.1
    ...     class_weights: tuple[float, ...] | None = None
    >>> Mine().at_eps_share(0.5)
    Mine(eps=0.05, class_weights=None)
    >>> Mine().with_class_weights((1.0, 3.0)).at_eps_share(0.0)
    CE(class_weights=(1.0, 3.0), label_smoothing=0.0)
    """

    class_weights: tuple[float, ...] | None
    label_smoothing: float = 0.0

    def at_eps_share(self, share: float) -> Defense:
        """As for `mirst.defenses.Defense`."""
        if share == 1 or not hasattr(self, "eps"):
            return self
        if share == 0:
            return CE(class_weights=self.class_weights, label_smoothing=self.label_smoothing)
        own: Any = self
        scaled = {"eps": share * own.eps}
        if getattr(own, "step_size", None) is not None:
            scaled["step_size"] = share * own.step_size
        return _replaced(self, scaled)

    def with_class_weights(self, weights: tuple[float, ...]) -> Defense:
        """As for `mirst.defenses.Defense`."""
        return self if self.class_weights is not None else _replaced(self, {"class_weights": weights})

    def with_label_smoothing(self, share: float) -> Defense:
        """As for `mirst.defenses.Defense`.

        Raises:
            MirstError: the defense has no field `label_smoothing`.
        """
        own: Any = self
        if "label_smoothing" not in {field.name for field in fields(own)}:
            raise MirstError(
                f"the defense {type(self).__name__} has no field label_smoothing; add it and pass it to the "
                "cross-entropy, or set training.label_smoothing to 0"
            )
        return self if self.label_smoothing else _replaced(self, {"label_smoothing": share})


class DefenseWrapper(Defense):
    """Base class of a frozen dataclass that wraps the defense in its field `inner`.

    The share of eps, the class weights, the label smoothing and the initial weights go to `inner`, whose `eps` and
    `uses_labels` are those of the wrapper.

    >>> from dataclasses import dataclass
    >>> from mirst.defenses import RST
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Halved(DefenseWrapper):
    ...     inner: RST = RST(eps=0.1)
    ...
    ...     def __call__(self, model, x, y, *, generator=None):
    ...         total, terms = self.inner(model, x, y, generator=generator)
    ...         return LossTerms(total / 2, terms)
    >>> Halved().at_eps_share(0.5).eps
    0.05
    >>> Halved().with_class_weights((1.0, 3.0)).at_eps_share(0.0)
    Halved(inner=CE(class_weights=(1.0, 3.0), label_smoothing=0.0))
    """

    inner: Any

    @property
    def eps(self) -> float:
        radius: float = self.inner.eps
        return radius

    @property
    def uses_labels(self) -> bool:
        return uses_labels(self.inner)

    def initialise(self, model: nn.Module) -> None:
        """As for `mirst.defenses.Defense`."""
        initialise(self.inner, model)

    def at_eps_share(self, share: float) -> Defense:
        """As for `mirst.defenses.Defense`."""
        return _replaced(self, {"inner": self.inner.at_eps_share(share)})

    def with_class_weights(self, weights: tuple[float, ...]) -> Defense:
        """As for `mirst.defenses.Defense`."""
        return _replaced(self, {"inner": self.inner.with_class_weights(weights)})

    def with_label_smoothing(self, share: float) -> Defense:
        """As for `mirst.defenses.Defense`."""
        return _replaced(self, {"inner": smoothed(self.inner, share)})


def require_defense(defense: object) -> None:
    """Raise `MirstError` unless `defense` declares how it takes a share of its eps and class weights."""
    name = type(defense).__name__
    for method in ("__call__", "at_eps_share", "with_class_weights"):
        if not callable(getattr(defense, method, None)):
            raise MirstError(
                f"the defense {name} has no {method}; derive it from mirst.defenses.BaseDefense, or from "
                "mirst.defenses.DefenseWrapper if it wraps another defense"
            )
    if isinstance(defense, BaseDefense) and not hasattr(defense, "class_weights"):
        raise MirstError(
            f"the defense {name} has no field class_weights; add it, or derive the defense from "
            "mirst.defenses.DefenseWrapper if it wraps another one"
        )
    if isinstance(defense, DefenseWrapper):
        require_defense(getattr(defense, "inner", None))


def smoothed(defense: Defense, share: float) -> Defense:
    """`defense` with `share` of every label spread over the classes.

    Raises:
        MirstError: it does not declare how it takes a share above 0.

    >>> from mirst.defenses import CE
    >>> smoothed(CE(), 0.1)
    CE(class_weights=None, label_smoothing=0.1)
    """
    if share == 0:
        return defense
    if not callable(getattr(defense, "with_label_smoothing", None)):
        raise MirstError(
            f"the defense {type(defense).__name__} has no with_label_smoothing; derive it from "
            "mirst.defenses.BaseDefense, or set training.label_smoothing to 0"
        )
    return defense.with_label_smoothing(share)


def uses_labels(defense: Defense) -> bool:
    """Whether the loss depends on the labels, which must be classes of the model then."""
    return bool(getattr(defense, "uses_labels", True))


def _replaced(defense: Any, changes: dict[str, Any]) -> Defense:
    changed: Defense = replace(defense, **changes)
    return changed
