"""What a model's output must be, and which outputs are right."""

import torch
from torch import Tensor

from mirst.errors import MirstError
from mirst.nn.factory import described


def require_logits(outputs: object, count: int, classes: int | None = None) -> Tensor:
    """`outputs`, if they are the floating-point `(count, K)` logits of K >= 2 classes.

    Args:
        outputs: what the model returned for `count` images.
        classes: K, where it is known.

    Raises:
        MirstError: anything else, with the mend.
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
    """Which images are misclassified, `(N,)`: the first largest logit is another class's, or a logit is not finite.

    Args:
        logits: `(N, K)`.
        y: `(N,)` integers in 0 to K - 1.
    """
    return (logits.argmax(1) != y) | ~torch.isfinite(logits).all(1)
