"""How a model is called, how far its logits may differ by rounding, and which class it predicts."""

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.metrics import CLASS_SCORE
from mirst.nn.device import device_of, where_float64
from mirst.nn.logits import logits_of

BATCH_SIZE = 64
ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Rounding error of a logit, as a share of the largest one, by the type of the weights; 1e-4 in float32."""
WORST = 1e39
"""Score of an image whose logits are not finite, on the wrong side: larger than any difference of float32 logits."""


def in_batches(model: nn.Module, images: Tensor) -> Tensor:
    """`logits_of` of any number of images on any device, `BATCH_SIZE` at a time."""
    return torch.cat([logits_of(model, part.to(device_of(model))) for part in torch.split(images, BATCH_SIZE)])


def share_of_rounding(model: nn.Module) -> float:
    """Rounding error of a logit of the model, as a share of the largest one."""
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return ROUNDING.get(kind, 1e-4)


def tolerance_of(model: nn.Module, logits: Tensor) -> float:
    """By how much logits may differ between calls by rounding alone, in their own units."""
    finite = logits[logits.isfinite()]
    return share_of_rounding(model) * float(finite.abs().max()) if len(finite) else 0.0


def differ(first: Tensor, second: Tensor, tolerance: float) -> bool:
    """Whether any two logits are further apart than `tolerance`, or only one of them is finite."""
    return not torch.allclose(first.double(), second.double(), rtol=0, atol=tolerance, equal_nan=True)


def decide(logits: Tensor, positive: int, threshold: float) -> tuple[Tensor, Tensor]:
    """Log-odds of the positive class in float64, and the predicted class index, each `(N,)`.

    `threshold` is subtracted from the logit of the positive class; the first largest logit decides.

    Args:
        logits: `(N, K)`.
        positive: index of the positive class.
        threshold: in units of the logits; other than 0 only with two classes.

    Raises:
        MirstError: logits that are not finite, a positive class that has no logit, or a threshold for more than two
            classes.

    >>> score, prediction = decide(torch.tensor([[0.0, 1.0]]), positive=1, threshold=2.0)
    >>> score.item(), prediction.item()
    (1.0, 0)
    """
    logits = where_float64(logits)
    if not 0 <= positive < logits.shape[1]:
        raise MirstError(f"positive is {positive}; the model has the classes 0 to {logits.shape[1] - 1}")
    if not torch.isfinite(logits).all():
        raise MirstError("the model returns logits that are not finite, so it predicts no class for this image")
    return _score(logits, positive), shifted(logits, positive, threshold).argmax(1)


def judge(logits: Tensor, y: Tensor, positive: int, threshold: float) -> tuple[Tensor, Tensor]:
    """As `decide`, for labelled images. An image with a logit that is not finite is misclassified.

    Its prediction is a class other than the label, if possible the positive one, and its score is `WORST` on the wrong
    side.

    Args:
        y: `(N,)` integers in 0 to K - 1.
    """
    logits, y = where_float64(logits), where_float64(y)
    finite = torch.isfinite(logits).all(1)
    score, prediction = decide(torch.where(finite[:, None], logits, 0.0), positive, threshold)
    is_positive = y == positive
    wrong = torch.where(is_positive, int(positive == 0), positive)
    worst = torch.full_like(score, WORST).masked_fill(is_positive, -WORST)
    return torch.where(finite, score, worst), torch.where(finite, prediction, wrong)


def class_scores(logits: Tensor, y: Tensor) -> Tensor:
    """Log-odds of every class against all others in float64, `(N, K)`; `WORST` on the wrong side as by `judge`.

    Args:
        logits: `(N, K)`.
        y: `(N,)` integers in 0 to K - 1.

    >>> class_scores(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).tolist()
    [[-1.0, 1.0]]
    """
    logits, y = where_float64(logits), where_float64(y)
    finite = torch.isfinite(logits).all(1)
    known = torch.where(finite[:, None], logits, 0.0)
    scores = torch.stack([_score(known, k) for k in range(logits.shape[1])], 1)
    worst = torch.full_like(scores, WORST).scatter(1, y[:, None], -WORST)
    return torch.where(finite[:, None], scores, worst)


def class_columns(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    """`class_scores` as columns of outcome rows, by class index; none with two classes, whose rows have the score."""
    if logits.shape[1] == 2:
        return {}
    return {f"{CLASS_SCORE}{k}": column for k, column in enumerate(class_scores(logits, y).T)}


def _score(logits: Tensor, positive: int) -> Tensor:
    others = logits.double()
    own = others[:, positive].clone()
    others = others.index_fill(1, torch.tensor([positive], device=logits.device), -torch.inf)
    return (own - others.logsumexp(1)).clamp(-WORST, WORST)


def shifted(logits: Tensor, positive: int, threshold: float) -> Tensor:
    """`logits` with `threshold` subtracted from that of the positive class, so that the largest decides.

    Raises:
        MirstError: a threshold that is not finite, or one for logits of more than two classes.
    """
    if not threshold:
        return logits
    if logits.shape[1] != 2:
        raise MirstError(f"a threshold needs a model with two classes, not {logits.shape[1]}")
    if not abs(threshold) < torch.inf:
        raise MirstError(f"threshold is {threshold}; it must be a finite number")
    return logits - _shift(logits, positive, threshold)


def _shift(logits: Tensor, positive: int, threshold: float) -> Tensor:
    shift = torch.zeros(logits.shape[1], device=logits.device)
    shift[positive] = threshold
    return shift


def at_threshold(model: nn.Module, positive: int, threshold: float) -> nn.Module:
    """`model` with its operating point moved to equal logits, so that a positive margin means misclassified."""
    return AtThreshold(model, positive, threshold) if threshold else model


class AtThreshold(nn.Module):
    """`model` with `threshold` subtracted from the logit of the positive class.

    >>> AtThreshold(nn.Identity(), positive=1, threshold=2.0)(torch.tensor([[0.0, 1.0]]))
    tensor([[ 0., -1.]])
    """

    def __init__(self, model: nn.Module, positive: int, threshold: float) -> None:
        super().__init__()
        self.model = model
        self.positive = positive
        self.threshold = threshold
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        return logits - _shift(logits, self.positive, self.threshold)
