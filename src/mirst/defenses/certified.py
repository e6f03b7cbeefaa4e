"""Training on bounds of the logits over the whole ball: the common base of IBP, CROWN-IBP, SABR and MTL-IBP."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS, require_fields
from mirst.attacks.descent import gradient_of, last, random_point
from mirst.attacks.losses import cross_entropy
from mirst.bounds.graph import trace
from mirst.bounds.interval import margins
from mirst.bounds.operations import Convolution, Dense, Elementwise
from mirst.bounds.program import Program
from mirst.bounds.training import run_training
from mirst.defenses.base import Defense, LossTerms, require_label_smoothing, weighted_cross_entropy
from mirst.defenses.base_classes import BaseDefense
from mirst.defenses.crafting import Crafting, require_weight
from mirst.defenses.stability import stability
from mirst.errors import MirstError
from mirst.nn.interval_initialisation import initialise_for_intervals


class Bounded:
    """A pass of clean images and of a box for each of them through a model.

    Batch norms in train mode have followed the clean images; every further value is computed with their statistics.
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, lower: Tensor, upper: Tensor, *, relax: bool = False
    ) -> None:
        self._record, self._y = run_training(_program(model), x, lower, upper, relax=relax), y

    @property
    def logits(self) -> Tensor:
        """`(N, K)`, of the clean images."""
        clean = self._record.box(-1).clean
        assert clean is not None  # the box of the images has clean ones
        return clean

    def worst(self, *, relax: bool = False) -> Tensor:
        """Worst-case logits `(N, K)` by interval bounds; with `relax`, if the pass was made for it, by CROWN-IBP."""
        return -margins(self._record, self._y, relax=relax)

    def logits_of(self, images: Tensor) -> Tensor:
        """`(N, K)`, of other images, one for each clean image."""
        values: list[Tensor] = []
        for operation, inputs in zip(self._record.operations, self._record.inputs, strict=True):
            values.append(operation.at(*[values[source] for source in inputs] or [images]))
        return values[-1]

    def stability(self) -> Tensor:
        """The regularisers of Shi et al. 2021, a scalar; 0 for a model without a layer such as ReLU."""
        record, images = self._record, None
        before = []
        for operation, inputs in zip(record.operations, record.inputs, strict=True):
            if images is None and isinstance(operation, Convolution | Dense):
                images = record.box(inputs[0])
            if isinstance(operation, Elementwise) and operation.convex:
                before.append(record.box(inputs[0]))
        if images is None or not before:
            return torch.zeros(())
        return stability((images.centre, images.radius), [(box.centre, box.radius) for box in before])


@dataclass(frozen=True, kw_only=True)
class CertifiedTraining(BaseDefense):
    """The fields and the schedule of every defense that trains on interval bounds.

    The worst-case logits of an image labelled y are 0 for y and, for every other class k, an upper bound of
    `logit_k - logit_y` over a box of images. Their cross-entropy is an upper bound of the cross-entropy of every image
    in the box. All bounds are differentiable. Batch norms in train mode use the statistics of the clean batch for the
    clean images, adversarial images and bounds alike, and follow it once in each step (CTBench, Mao et al. 2025).

    In the ramp, at a share s of eps, `stabilisation * (1 - s) * stability` is added to the loss (Shi et al. 2021).
    `initialise` draws the initial weights of the same source; a study does so for models that start from random
    weights, before `fit` it is the caller's to do.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], or a model with a layer that has no
            bounds, on call.

    >>> CertifiedTraining(eps=0.2).at_eps_share(0.5).eps
    0.1
    """

    eps: float = PAPER_EPS
    """Radius of the L-infinity ball, in units of the [0, 1] pixel range. Images stay in [0, 1]."""
    stabilisation: float = 0.5
    """Weight of the regularisers of the ramp, lambda_0 in Shi et al. 2021."""
    eps_share: float = 1.0
    """Share of the ramp that is over; `fit` sets it, together with `eps`, from epoch to epoch."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in every cross-entropy; with `None` all classes have the same weight."""
    label_smoothing: float = 0.0
    """Share of the label that is spread evenly over all classes, in every cross-entropy that is trained on."""

    def __post_init__(self) -> None:
        require_fields(eps=self.eps)
        require_weight("stabilisation", self.stabilisation)
        require_share("eps_share", self.eps_share)
        require_label_smoothing(self.label_smoothing)

    def initialise(self, model: nn.Module) -> None:
        """As for `mirst.defenses.Defense`: the weights of `mirst.nn.initialise_for_intervals`."""
        initialise_for_intervals(model)

    def at_eps_share(self, share: float) -> Defense:
        """As for `mirst.defenses.Defense`."""
        scaled = super().at_eps_share(share)
        return replace(scaled, eps_share=share) if isinstance(scaled, CertifiedTraining) else scaled

    def _loss(self, bounded: Bounded, total: Tensor, **terms: Tensor) -> LossTerms:
        """`total`, with the regularisers of the ramp while it lasts."""
        weight = self.stabilisation * (1 - self.eps_share)
        if weight > 0:
            terms["stability"] = bounded.stability()
            total = total + weight * terms["stability"].to(total)
        return LossTerms(total, {name: term.item() for name, term in terms.items()})

    def _cross_entropy(self, logits: Tensor, y: Tensor) -> Tensor:
        return weighted_cross_entropy(logits, y, self.class_weights, self.label_smoothing)


@dataclass(frozen=True, kw_only=True)
class AttackedTraining(CertifiedTraining, Crafting):
    """Certified training that also attacks the images, by PGD from a random start.

    Raises:
        MirstError: a field out of range, on construction.

    >>> AttackedTraining(steps=3).at_eps_share(0.5).steps
    3
    """

    def __post_init__(self) -> None:
        Crafting.__post_init__(self)
        super().__post_init__()

    def _attacked(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        start = random_point(x, self.eps, generator)
        with self._crafting(model, x, y) as net:
            return last(self._iterates(gradient_of(lambda images: cross_entropy(net(images), y)), x, start=start))


def ball(centre: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends of the images in [0, 1] within `radius` of `centre`."""
    return (centre - radius).clamp(0, 1), (centre + radius).clamp(0, 1)


def require_share(name: str, value: float) -> None:
    """Raise `MirstError` unless `value` lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise MirstError(f"{name} is {value}; it must lie between 0 and 1")


class _Last:
    """The model that was traced last, and its program: tracing costs as much as a step of a small network."""

    layers: tuple[object, ...] = ()
    program: Program | None = None


def _program(model: nn.Module) -> Program:
    """`trace(model)`, which is kept until another model comes, or this one has other layers, hooks or forwards."""
    layers = tuple(
        part
        for layer in model.modules()
        for part in (layer, len(layer._forward_hooks), len(layer._forward_pre_hooks), vars(layer).get("forward"))
    )
    if _Last.program is None or layers != _Last.layers:
        _Last.program, _Last.layers = trace(model), layers
    return _Last.program
