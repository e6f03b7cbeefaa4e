"""The contract of models: how they are called, what they must return, which predictions are wrong."""

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.nn.factory import described
from mirst.nn.frozen import frozen


def require_logits(outputs: object, count: int, classes: int | None = None) -> Tensor:
    """`outputs`, if they are the floating-point `(count, K)` logits of K >= 2 classes.

    Args:
        outputs: what the model returned for `count` images.
        classes: K, where it is known.

    Raises:
        MirstError: anything else; the message says how to wrap the model.
    """
    if not isinstance(outputs, Tensor):
        keys = f" with {', '.join(map(str, outputs))}" if isinstance(outputs, dict) else ""
        raise MirstError(
            f"the model returns {described(outputs)}{keys}; wrap it so that it returns the (N, K) logits alone"
        )
    shape = tuple(outputs.shape)
    if shape in ((count,), (count, 1)):
        join = "stack" if len(shape) == 1 else "cat"
        raise MirstError(
            f"the model returns one number per image, {shape}; wrap it so that it returns two logits: "
            f"torch.{join}([torch.zeros_like(z), z], 1) of its logit z, taken before any sigmoid"
        )
    if len(shape) != 2 or len(outputs) != count or not shape[1]:
        raise MirstError(f"the model returns {shape} for {count} images; wrap it so that it returns (N, K) logits")
    if not outputs.is_floating_point():
        raise MirstError(f"the model returns {outputs.dtype}; wrap it so that it returns logits, not predictions")
    if classes is not None and shape[1] != classes:
        raise MirstError(
            f"the model returns {shape[1]} logits, but there are {classes} classes; give it a last layer of {classes} "
            "outputs, or data with the classes it was trained for"
        )
    return outputs


def misclassified(logits: Tensor, y: Tensor) -> Tensor:
    """Which images are misclassified, `(N,)`: the first largest logit is not that of `y`, or a logit is not finite.

    Args:
        logits: `(N, K)`.
        y: `(N,)` integers in 0 to K - 1.
    """
    return (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)


class Logits:
    """A model as attacks, defenses and evaluation call it.

    `require_logits` checks what it returns. The images keep their values, even if the first layer works in place. If
    the model rejects the type of the images, they are converted to the type of its weights. The logits are returned in
    float32, or in float64 for images in float64.

    Raises:
        MirstError: an output that is not `(N, K)` logits, on call.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.classes: int | None = None
        """K, after the first call."""
        self._dtype: torch.dtype | None = None
        self._opaque = is_opaque(model)

    def __call__(self, images: Tensor) -> Tensor:
        """`(N, K)` logits of `(N, C, H, W)` images."""
        logits = require_logits(self._outputs(images), len(images))
        self.classes = logits.shape[1]
        return logits.to(images.dtype if images.dtype == torch.float64 else torch.float32)

    def _outputs(self, images: Tensor) -> object:
        if self._dtype is not None:
            return self.model(images.to(self._dtype, copy=True))
        try:
            return self.model(self._spared(images))
        except (RuntimeError, TypeError):
            own = dtype_of(self.model)
            if own is None or own == images.dtype:
                raise
            try:
                outputs = self.model(images.to(own))
            except Exception:  # noqa: BLE001 - the first error is the one to report
                outputs = None
            if outputs is None:
                raise
        self._dtype = own
        return outputs

    def _spared(self, images: Tensor) -> Tensor:
        """A copy that the first layer may change. Compiled code cannot change a leaf, and warns about non-leaves."""
        return images if self._opaque and images.requires_grad else images.clone()


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """`(N, K)` logits in float32 or float64, in eval mode and without gradients; the model is unchanged.

    Raises:
        MirstError: an output that is not `(N, K)` logits, K >= 2.
    """
    with frozen(model, training=False), torch.no_grad():
        return Logits(model)(images).detach()


def is_opaque(model: nn.Module) -> bool:
    """Whether the model or a part of it is compiled or scripted."""
    kinds = [type(layer) for layer in model.modules()]
    return any(
        issubclass(kind, torch.jit.ScriptModule) or kind.__module__.startswith("torch._dynamo") for kind in kinds
    )


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The type of the first floating-point parameter; `None` if there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def input_gradient(values: Tensor, images: Tensor, *, retain_graph: bool = False, create_graph: bool = False) -> Tensor:
    """The gradient of the sum of `values` with respect to `images`; 0 if `values` do not depend on them.

    Args:
        values: one per image, `(N,)`, or their sum.
        images: what the model was called on.
    """
    if not values.requires_grad:
        return torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(
        values.sum(), images, retain_graph=retain_graph or create_graph, create_graph=create_graph, allow_unused=True
    )
    return torch.zeros_like(images) if gradient is None else gradient
