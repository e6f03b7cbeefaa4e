"""An upper bound of the smallest eps at which each image is misclassified."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks import FAB
from mirst.attacks.base import Minimum, attackable
from mirst.attacks.best import per_image
from mirst.attacks.descent import gradient_of, iterates
from mirst.attacks.losses import margin
from mirst.batches import Loader, checked_batches, require_labels
from mirst.data import Record
from mirst.errors import MirstError
from mirst.evaluation.judge import WORST, at_threshold, judge, shifted
from mirst.evaluation.model_checks import NO_FINITE_LOGITS, warn_of_flaws
from mirst.evaluation.outcomes import checked_distance
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.metrics import MetricInput, study_metrics
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of, misclassified
from mirst.random_draws import seeded

LARGEST = 16 / 255
"""The largest eps of the search."""
FAB_STEPS = 30
ROUNDS = 8
STEPS = 40


@dataclass(frozen=True)
class Distances:
    """What `distances` returns.

    >>> bright = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).requires_grad_(False).eval()
    >>> bright[1].weight[:], bright[1].bias[:] = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    >>> found = distances(bright, [(torch.full((1, 1, 1, 1), 0.4), torch.tensor([1]))], check=False)
    >>> found.rows["eps"].tolist(), found.images.flatten().tolist()  # 0.4 is predicted to be dark: misclassified
    ([0.0], [0.4000000059604645])
    """

    rows: pd.DataFrame
    """One row per image: `image` (its position in `data`), `label`, `prediction` and `score` without an attack,
    `eps` (the smallest at which it is misclassified, in units of the pixel range; 0 if the clean image is
    misclassified, NaN if none up to `LARGEST` succeeds), `broken_prediction` and `broken_score` (at that eps; NaN
    without one). These two names are those of the tables on disk."""
    images: Tensor
    """`(N, C, H, W)`: the nearest image that is misclassified, or the clean one if there is none."""


def distances(
    model: nn.Module,
    data: Loader,
    *,
    positive: int = 1,
    threshold: float = 0.0,
    check: bool = True,
    on_progress: OnProgress = no_progress,
) -> Distances:
    """Search for the smallest eps that makes the model misclassify each image, at its operating point.

    FAB gives a first distance. Bisection over eps with PGD on the margin then reduces it: `ROUNDS` rounds
    of `STEPS` steps each, with a separate ball for every image. Nothing is random. The result is an
    upper bound of the true distance: a longer search can only reduce it. As in `evaluate`, nothing that an
    attack claims is used.

    Args:
        model, data, positive, threshold, check, on_progress: as in `evaluate`.

    Raises:
        MirstError, RuntimeError: as `evaluate`.
    """
    device, done = device_of(model), 0
    parts: list[tuple[pd.DataFrame, Tensor]] = []
    with seeded(0, device):
        if check:
            data = warn_of_flaws(model, data)
        for x, y in checked_batches(data):
            on_progress(Progress("smallest eps", LARGEST, done))
            parts.append(_Search(model, x, y, positive, threshold).result())
            done += len(x)
            on_progress(Progress("smallest eps", LARGEST, done))
    if not parts:
        raise MirstError("there are no images to evaluate on")
    rows = pd.concat([table for table, _ in parts], ignore_index=True)
    if not (rows["score"].abs() < WORST).any():
        raise MirstError(NO_FINITE_LOGITS)
    rows.insert(0, "image", range(len(rows)))
    return Distances(rows, torch.cat([images.cpu() for _, images in parts]))


def named_distances(rows: pd.DataFrame, records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    """The rows of `distances` with image and class names, source and group; NaN classes stay empty.

    Args:
        records: one per image position.
    """
    by_number = dict(enumerate(classes))
    own = [records[i] for i in rows["image"]]
    named = rows.assign(
        image=[record.name for record in own],
        label=rows["label"].map(by_number),
        prediction=rows["prediction"].map(by_number),
        broken_prediction=rows["broken_prediction"].map(by_number),
    )
    named.insert(0, "source", [record.source for record in own])
    named.insert(2, "group", [record.group for record in own])
    return named


def curve(rows: pd.DataFrame, eps: Sequence[float], classes: Sequence[str], positive: str | None) -> pd.DataFrame:
    """`eps` and every metric of predictions, from named rows under attacks of each radius.

    An image counts as misclassified from its smallest eps on.

    Args:
        rows: as from `named_distances`.
        eps: radii, in units of the [0, 1] pixel range.

    >>> rows = pd.DataFrame({"label": ["a", "b"], "prediction": ["a", "b"], "eps": [0.01, float("nan")]})
    >>> curve(rows.assign(broken_prediction=["b", None]), [0, 0.02], ("a", "b"), "b")["accuracy"].tolist()
    [1.0, 0.5]
    """
    over_eps = [metric for metric in study_metrics(positive).values() if metric.computed_from == "predictions"]
    lines = []
    for radius in eps:
        predictions = rows["prediction"].where(~(rows["eps"] <= radius), rows["broken_prediction"])
        given = MetricInput.of(rows["label"], predictions, np.zeros(len(rows)), classes, positive)
        lines.append({"eps": radius} | {metric.name: metric.value(given) for metric in over_eps})
    return pd.DataFrame(lines)


class _Search:
    """The search on one batch."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, positive: int, threshold: float) -> None:
        device = device_of(model)
        self.model, self.positive, self.threshold = model, positive, threshold
        self.x, self.y = x.to(device), y.to(device)

    def result(self) -> tuple[pd.DataFrame, Tensor]:
        """Rows without `image`, and the nearest misclassified images."""
        x, y = self.x, self.y
        logits = logits_of(self.model, x)
        require_labels(y, logits.shape[1])
        score, prediction = judge(logits, y, self.positive, self.threshold)
        table = pd.DataFrame({"label": y.cpu(), "prediction": prediction.cpu(), "score": score.cpu()})
        eps, attacked, attacked_score = np.zeros(len(x)), *table[["prediction", "score"]].to_numpy(float, copy=True).T
        images, left = x.clone(), (prediction == y).nonzero().squeeze(1)
        if len(left):
            nearest = self._nearest(x[left], y[left])
            after, predicted = judge(logits_of(self.model, nearest.images), y[left], self.positive, self.threshold)
            robust, at = nearest.distances.isinf().cpu().numpy(), left.cpu().numpy()
            images[left] = nearest.images
            eps[at] = np.where(robust, np.nan, nearest.distances.double().cpu().numpy())
            attacked[at] = np.where(robust, np.nan, predicted.cpu().numpy())
            attacked_score[at] = np.where(robust, np.nan, after.cpu().numpy())
        return table.assign(eps=eps, broken_prediction=attacked, broken_score=attacked_score), images

    def _nearest(self, x: Tensor, y: Tensor) -> Minimum:
        """The nearest misclassified images within `LARGEST` of images that are classified correctly."""
        net = at_threshold(self.model, self.positive, self.threshold)
        best = Minimum(x, x.new_full((len(x),), torch.inf))
        best = self._confirmed(x, y, best, FAB(eps=LARGEST, steps=FAB_STEPS)(net, x, y))
        low = torch.zeros_like(best.distances)
        for _ in range(ROUNDS):
            eps = torch.where(best.distances.isfinite(), (low + best.distances) / 2, LARGEST)
            nearer = self._confirmed(x, y, best, _pgd(net, x, y, eps))
            low = torch.where(nearer.distances < best.distances, low, eps)
            best = nearer
        return best

    def _confirmed(self, x: Tensor, y: Tensor, best: Minimum, images: Tensor) -> Minimum:
        """`best`, replaced by `images` where they are misclassified and nearer."""
        distance = checked_distance("search", x, images, LARGEST)
        wrong = misclassified(shifted(logits_of(self.model, images), self.positive, self.threshold), y)
        better = wrong & (distance < best.distances)
        return Minimum(per_image(better, images, best.images), torch.where(better, distance, best.distances))


def _pgd(model: nn.Module, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """The nearest misclassified point that PGD visits in balls of radius `eps`, `(N,)`; `x` if there is none."""
    best, nearest = x, x.new_full((len(x),), torch.inf)

    def look(images: Tensor) -> Tensor:
        nonlocal best, nearest
        logits = net(images)
        distance = (images.detach() - x).abs().flatten(1).amax(1)
        better = misclassified(logits.detach(), y) & (distance < nearest)
        best, nearest = per_image(better, images.detach(), best), torch.where(better, distance, nearest)
        return margin(logits, y)

    radius = eps.view(-1, 1, 1, 1)
    with attackable(model, x, y) as (net, _, _):
        for _ in iterates(gradient_of(look), x, eps=radius, step_size=radius / 8, steps=STEPS):
            pass
    return best
