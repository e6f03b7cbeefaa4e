"""What every defense is."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mirst.batches import require_labels
from mirst.errors import MirstError


class LossTerms(NamedTuple):
    """What a defense returns.

    >>> loss = torch.tensor(0.5)
    >>> LossTerms(loss, {"clean": loss.item()}).terms
    {'clean': 0.5}
    """

    total: Tensor
    """The scalar to minimise."""
    terms: dict[str, float]
    """Its parts by name, unweighted, to watch."""


class Defense(Protocol):
    """A frozen, keyword-only dataclass whose fields are its configuration.

    Called on a model, images and labels it returns a loss whose backward trains the model. It knows neither optimizer
    nor epoch, leaves the model's modes unchanged, and crafts without a trace in batch-norm buffers or `.grad`.

    `at_eps_share`, `with_class_weights` and `with_label_smoothing` declare how `fit` applies warm-up, ramp, class
    weights and label smoothing. A defense gets them from `mirst.defenses.BaseDefense`, or from
    `mirst.defenses.DefenseWrapper` if it wraps another defense. Three more attributes are optional: `eps`, the radius
    of its L-infinity ball in units of the [0, 1] pixel range; `uses_labels`, which is False for an objective that
    ignores the labels; and the method `initialise(model)`, which draws initial weights in place from torch's global
    generator. A study calls it on models that start from random weights; the weights of a model given to `fit` are the
    caller's.

    >>> from mirst.defenses import CE
    >>> defense: Defense = CE()
    >>> defense.at_eps_share(0.5) == defense
    True
    """

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        """The loss on `x`, `(N, C, H, W)` in [0, 1], labelled `y`, `(N,)` integers."""
        ...

    def at_eps_share(self, share: float) -> "Defense":
        """This defense at `share`, from 0 to 1, of its eps; at 0 it trains on clean images alone.

        A defense without eps returns itself.
        """
        ...

    def with_class_weights(self, weights: tuple[float, ...]) -> "Defense":
        """This defense with these weights of the classes, unless it has weights already.

        A defense that ignores the labels returns itself.
        """
        ...

    def with_label_smoothing(self, share: float) -> "Defense":
        """This defense with `share` of every label spread evenly over the classes, unless it smooths labels already.

        Labels are smoothed in the cross-entropies that are trained on, never in a loss that crafting ascends. A defense
        that ignores the labels returns itself.
        """
        ...


def initialise(defense: Defense, model: nn.Module) -> None:
    """Draw the initial weights of `model` that `defense` needs, if it needs special ones.

    >>> from mirst.defenses import CE
    >>> model = nn.Linear(4, 2)
    >>> weight = model.weight.clone()
    >>> initialise(CE(), model)
    >>> torch.equal(model.weight, weight)
    True
    """
    draw = getattr(defense, "initialise", None)
    if draw is not None:
        draw(model)


def has_eps(defense: Defense) -> bool:
    """Whether `defense` changes with the share of its eps.

    >>> from mirst.defenses import CE, RST
    >>> has_eps(RST()), has_eps(CE())
    (True, False)
    """
    return defense.at_eps_share(0.0) != defense


def weighted_cross_entropy(
    logits: Tensor, y: Tensor, class_weights: tuple[float, ...] | None, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy, each image weighted by its class, the weights of a batch summing to one.

    With `label_smoothing` s the target of an image is 1 - s + s/K for its class and s/K for every other. The weight
    stays that of its class, so balanced classes stay balanced; torch weights each entry of the target by its own class.

    Raises:
        MirstError: a label that is no class of the model.
    """
    require_labels(y, logits.shape[1])
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    loss = nn.functional.cross_entropy(logits, y, weight=weight)
    if label_smoothing == 0:
        return loss
    spread = -nn.functional.log_softmax(logits, 1).mean(1)
    own = torch.ones_like(spread) if weight is None else weight[y]
    return (1 - label_smoothing) * loss + label_smoothing * (own * spread).sum() / own.sum()


def require_label_smoothing(share: float) -> None:
    """Raise `MirstError` unless `share` is a share of a label that may be spread."""
    if not 0 <= share < 1:
        raise MirstError(f"label_smoothing is {share}; it must be at least 0 and below 1")
