"""The smallest eps at which each image breaks, as far as a search finds it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks import FAB
from mirst.attacks.base import Minimum, attackable, require_images
from mirst.attacks.best import per_image
from mirst.attacks.descent import gradient_of, iterates
from mirst.attacks.losses import margin
from mirst.data import Record
from mirst.errors import MirstError
from mirst.evaluation.evaluate import checked_distance, decide, device_of, logits_of
from mirst.evaluation.progress import Progress, Tell, ignore
from mirst.evaluation.worst_case import at_threshold
from mirst.metrics import classification_metrics

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
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    positive: int = 1,
    threshold: float = 0.0,
    tell: Tell = ignore,
) -> Distances:
    """Search the smallest eps that breaks each image, at the model's operating point.

    FAB's nearest success, drawn nearer by bisection over eps with PGD on the margin: `ROUNDS` rounds
    of `STEPS` steps each, in a ball of its own for every image. Nothing is random. What is found is an
    upper bound of the true distance: a longer search may find less, never more. As in
    `evaluate`, no attack is believed.

    Args:
        model, data, positive, threshold, tell: as in `evaluate`.

    Raises:
        MirstError, RuntimeError: as `evaluate`.
    """
    shifted, device = at_threshold(model, positive, threshold), device_of(model)
    tables, images, done = [], [], 0
    for x, y in data:
        require_images(x, y)
        tell(Progress("smallest eps", LARGEST, done))
        table, broken = _of_batch(shifted, x.to(device), y.to(device), positive)
        tables.append(table)
        images.append(broken.cpu())
        done += len(x)
        tell(Progress("smallest eps", LARGEST, done))
    if not tables:
        raise MirstError("there are no images to evaluate on")
    rows = pd.concat(tables, ignore_index=True)
    rows.insert(0, "image", range(len(rows)))
    rows[["score", "broken_score"]] += threshold
    return Distances(rows, torch.cat(images))


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


def _of_batch(model: nn.Module, x: Tensor, y: Tensor, positive: int) -> tuple[pd.DataFrame, Tensor]:
    score, prediction = decide(logits_of(model, x), positive, 0.0)
    columns = {"label": y, "prediction": prediction, "score": score.double()}
    table = pd.DataFrame({name: np.asarray(value.cpu()) for name, value in columns.items()})
    eps, answer, broken_score = np.zeros(len(x)), *table[["prediction", "score"]].to_numpy(float, copy=True).T
    images, left = x.clone(), (prediction == y).nonzero().squeeze(1)
    if len(left):
        found = _search(model, x[left], y[left], positive)
        after, answer_after = decide(logits_of(model, found.images), positive, 0.0)
        stands, at = found.distances.isinf().cpu().numpy(), left.cpu().numpy()
        images[left] = found.images
        eps[at] = np.where(stands, np.nan, found.distances.double().cpu().numpy())
        answer[at] = np.where(stands, np.nan, answer_after.cpu().numpy())
        broken_score[at] = np.where(stands, np.nan, after.double().cpu().numpy())
    return table.assign(eps=eps, broken_prediction=answer, broken_score=broken_score), images


def _search(model: nn.Module, x: Tensor, y: Tensor, positive: int) -> Minimum:
    """The nearest misclassified images within `LARGEST` of images that are classified rightly."""
    found = Minimum(x, x.new_full((len(x),), torch.inf))
    found = _confirmed(model, x, y, positive, found, FAB(eps=LARGEST, steps=FAB_STEPS)(model, x, y))
    low = torch.zeros_like(found.distances)
    for _ in range(ROUNDS):
        eps = torch.where(found.distances.isfinite(), (low + found.distances) / 2, LARGEST)
        nearer = _confirmed(model, x, y, positive, found, _pgd(model, x, y, eps))
        low = torch.where(nearer.distances < found.distances, low, eps)
        found = nearer
    return found


def _pgd(model: nn.Module, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """Of the points that PGD visits in balls of radius `eps`, `(N,)`, the nearest beyond the decision; else `x`."""
    best, nearest = x, x.new_full((len(x),), torch.inf)

    def look(images: Tensor) -> Tensor:
        nonlocal best, nearest
        beyond = margin(net(images), y)
        distance = (images.detach() - x).abs().flatten(1).amax(1)
        better = (beyond.detach() > 0) & (distance < nearest)
        best, nearest = per_image(better, images.detach(), best), torch.where(better, distance, nearest)
        return beyond

    radius = eps.view(-1, 1, 1, 1)
    with attackable(model) as net:
        for _ in iterates(gradient_of(look), x, eps=radius, step_size=radius / 8, steps=STEPS):
            pass
    return best


def _confirmed(model: nn.Module, x: Tensor, y: Tensor, positive: int, found: Minimum, images: Tensor) -> Minimum:
    """`found`, with `images` where the model is wrong on them and they are nearer."""
    distance = checked_distance("search", x, images, LARGEST)
    wrong = decide(logits_of(model, images), positive, 0.0)[1] != y
    better = wrong & (distance < found.distances)
    return Minimum(per_image(better, images, found.images), torch.where(better, distance, found.distances))
