"""The smallest eps at which each image breaks, as far as a search finds it."""

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
from mirst.evaluation.judge import WORST, at_threshold, judge, seeded, shifted
from mirst.evaluation.model_checks import NO_ANSWER, warn_of_flaws
from mirst.evaluation.outcomes import checked_distance
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.metrics import classification_metrics
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of, misclassified

LARGEST = 16 / 255
"""No eps above it is looked at."""
FAB_STEPS = 30
ROUNDS = 8
STEPS = 40
OVER_EPS = ("f1", "sensitivity", "specificity", "accuracy")


@dataclass(frozen=True)
class Distances:
    rows: pd.DataFrame
    """One row per image: `image` (its position in `data`), `label`, `prediction` and `score` without an attack,
    `eps` (the smallest that broke it, in units of the pixel range; 0 where the clean image is
    misclassified, NaN where none up to `LARGEST` did), `broken_prediction` and `broken_score` (NaN where it stands)."""
    images: Tensor
    """`(N, C, H, W)`: the nearest image that is misclassified; the clean one where it stands."""


def distances(
    model: nn.Module,
    data: Loader,
    *,
    positive: int = 1,
    threshold: float = 0.0,
    check: bool = True,
    on_progress: OnProgress = no_progress,
) -> Distances:
    """Search the smallest eps that breaks each image, at the model's operating point.

    FAB's nearest success, drawn nearer by bisection over eps with PGD on the margin: `ROUNDS` rounds
    of `STEPS` steps each, in a ball of its own for every image. Nothing is random. What is found is an
    upper bound of the true distance: a longer search may find less, never more. As in
    `evaluate`, no attack is believed.

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
        raise MirstError(NO_ANSWER)
    rows.insert(0, "image", range(len(rows)))
    return Distances(rows, torch.cat([images.cpu() for _, images in parts]))


def named_distances(rows: pd.DataFrame, records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    """The rows of `distances` with image and class names, source and group; empty where they are NaN.

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


def curve(rows: pd.DataFrame, eps: Sequence[float], classes: Sequence[str], positive: str) -> pd.DataFrame:
    """`eps, f1, sensitivity, specificity, accuracy` of named rows, under attacks of each radius.

    From its smallest eps on an image counts as answered wrongly.
    """
    found = []
    for radius in eps:
        answers = rows["prediction"].where(~(rows["eps"] <= radius), rows["broken_prediction"])
        metrics = classification_metrics(rows["label"], answers, np.zeros(len(rows)), classes, positive)
        found.append({"eps": radius} | {name: metrics[name] for name in OVER_EPS})
    return pd.DataFrame(found)


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
        eps, answer, broken_score = np.zeros(len(x)), *table[["prediction", "score"]].to_numpy(float, copy=True).T
        images, left = x.clone(), (prediction == y).nonzero().squeeze(1)
        if len(left):
            found = self._nearest(x[left], y[left])
            after, answer_after = judge(logits_of(self.model, found.images), y[left], self.positive, self.threshold)
            stands, at = found.distances.isinf().cpu().numpy(), left.cpu().numpy()
            images[left] = found.images
            eps[at] = np.where(stands, np.nan, found.distances.double().cpu().numpy())
            answer[at] = np.where(stands, np.nan, answer_after.cpu().numpy())
            broken_score[at] = np.where(stands, np.nan, after.cpu().numpy())
        return table.assign(eps=eps, broken_prediction=answer, broken_score=broken_score), images

    def _nearest(self, x: Tensor, y: Tensor) -> Minimum:
        """The nearest misclassified images within `LARGEST` of images that are classified rightly."""
        net = at_threshold(self.model, self.positive, self.threshold)
        found = Minimum(x, x.new_full((len(x),), torch.inf))
        found = self._confirmed(x, y, found, FAB(eps=LARGEST, steps=FAB_STEPS)(net, x, y))
        low = torch.zeros_like(found.distances)
        for _ in range(ROUNDS):
            eps = torch.where(found.distances.isfinite(), (low + found.distances) / 2, LARGEST)
            nearer = self._confirmed(x, y, found, _pgd(net, x, y, eps))
            low = torch.where(nearer.distances < found.distances, low, eps)
            found = nearer
        return found

    def _confirmed(self, x: Tensor, y: Tensor, found: Minimum, images: Tensor) -> Minimum:
        """`found`, with `images` where the model is wrong on them and they are nearer."""
        distance = checked_distance("search", x, images, LARGEST)
        wrong = misclassified(shifted(logits_of(self.model, images), self.positive, self.threshold), y)
        better = wrong & (distance < found.distances)
        return Minimum(per_image(better, images, found.images), torch.where(better, distance, found.distances))


def _pgd(model: nn.Module, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """Of the points that PGD visits in balls of radius `eps`, `(N,)`, the nearest misclassified one; else `x`."""
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
