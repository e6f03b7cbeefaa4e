"""Certificates: a proof for each image that no change of its pixels by at most eps makes the model misclassify it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirst.attacks import APGD, Attack
from mirst.batches import Loader, checked_batches, require_labels
from mirst.bounds import METHODS, largest_certified_eps, margin_bounds, score_bounds
from mirst.data import Record
from mirst.errors import MirstError, suggestion
from mirst.evaluation.judge import judge
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.evaluation.suite_run import require_eps
from mirst.evaluation.worst_case import WORST_SCORE, worst_case
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of
from mirst.random_draws import seeded

ATTACK, STEPS = "apgd-margin", 30
"""The attack that gives the other side of each figure."""


def certify(
    model: nn.Module,
    data: Loader,
    eps: Sequence[float],
    *,
    method: str = "interval",
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """Bound the margin of every image from below at every eps, and attack it there.

    The margin is the logit of the label minus the largest other logit, at the operating point. An image whose margin
    is above 0 in the whole ball is certified: no attack within eps makes the model misclassify it, rounding included.

    Args:
        model, data, positive, threshold, seed: as in `evaluate`, the images of all batches of one shape.
        eps: radii above 0, in units of the [0, 1] pixel range.
        method: a key of `mirst.bounds.METHODS`: `interval`, or `crown`, which is tighter and slower.
        on_progress: called with the progress of the bounds and of the attack.

    Returns:
        One row per eps and image: `image` (its position in `data`), `label` and `prediction` (class indices, without
        attack), `eps`, `method`, `margin` (lower bound), `certified`, `score` (bound of the worst log-odds of the
        positive class), `clean_score`, `largest_eps` (the largest eps at which the image is certified, found by
        bisection; 0 if there is none), and `attacked_prediction` and `attacked_score`, the worst that APGD with 30
        steps on the margin found.

    Raises:
        MirstError: a model that draws at random or has a layer without bounds; an unknown method; an eps that is out
            of range or named twice; otherwise as `evaluate`.
        RuntimeError: as `require_certificates_hold`.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).requires_grad_(False).eval()
    >>> model[1].weight[:], model[1].bias[:] = torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.0])
    >>> rows = certify(model, [(torch.full((1, 1, 1, 1), 0.75), torch.tensor([1]))], [0.125, 0.5])
    >>> rows["certified"].tolist(), rows["margin"].round(3).tolist()
    ([True, False], [0.125, -0.25])
    """
    if method not in METHODS:
        raise MirstError(f"there is no method {method}{suggestion(str(method), list(METHODS))}")
    require_eps(eps)
    batches = list(checked_batches(data))
    if not batches:
        raise MirstError("there are no images to certify")
    with seeded(seed, device_of(model)):
        bounds = _Bounds(model, batches, method, positive, threshold, on_progress)
        clean = bounds.clean().assign(method=method, largest_eps=bounds.largest())
        tables = [clean.assign(**bounds.at(radius)) for radius in eps]
    attacked = [_attacked(model, batches, radius, positive, threshold, seed, on_progress) for radius in eps]
    rows = pd.concat([table.join(other) for table, other in zip(tables, attacked, strict=True)], ignore_index=True)
    require_certificates_hold(rows)
    reached = rows["eps"].where(rows["certified"], 0.0).groupby(rows["image"]).transform("max")
    return rows.assign(largest_eps=np.maximum(rows["largest_eps"], reached))[COLUMNS]


def require_bounds(model: nn.Module, x: Tensor, method: str = "interval") -> None:
    """Require that `certify` can bound the model, on images `x`, `(N, C, H, W)`.

    Raises:
        MirstError: it draws at random, or has a layer without bounds.
    """
    margin_bounds(model, x, torch.zeros(len(x), dtype=torch.long), 0.0, method=method)


def require_certificates_hold(rows: pd.DataFrame) -> None:
    """Compare the certificates with what attacks within the same eps found.

    Args:
        rows: with the columns `image, eps, certified, label, prediction` and `attacked_prediction`.

    Raises:
        RuntimeError: a certified image is misclassified, clean or attacked: a defect of the bounds.
    """
    wrong = (rows["prediction"] != rows["label"]) | (rows["attacked_prediction"] != rows["label"])
    broken = rows[rows["certified"].astype(bool) & wrong]
    if len(broken):
        first = broken.iloc[0]
        raise RuntimeError(
            f"{len(broken)} certificates are wrong: image {first['image']} is certified at eps "
            f"{255 * first['eps']:g}/255, but an attack within this eps makes the model predict "
            f"{first['attacked_prediction']}; do not use any certificate of this model, and report this defect of mirst"
        )


COLUMNS = [
    "image",
    "label",
    "prediction",
    "eps",
    "method",
    "margin",
    "certified",
    "score",
    "clean_score",
    "largest_eps",
    "attacked_prediction",
    "attacked_score",
]


def named_certificates(rows: pd.DataFrame, records: Sequence[Record], classes: Sequence[str]) -> pd.DataFrame:
    """The rows of `certify` with image and class names, source and group.

    Args:
        records: one per image position.
    """
    own, names = [records[i] for i in rows["image"]], np.array(classes)
    named = rows.assign(
        image=[record.name for record in own],
        **{column: names[rows[column]] for column in ("label", "prediction", "attacked_prediction")},
    )
    named.insert(0, "source", [record.source for record in own])
    named.insert(2, "group", [record.group for record in own])
    return named


class _Bounds:
    """The bounds of one model on all images."""

    def __init__(
        self,
        model: nn.Module,
        batches: list[tuple[Tensor, Tensor]],
        method: str,
        positive: int,
        threshold: float,
        on_progress: OnProgress,
    ) -> None:
        device = device_of(model)
        self.model, self.method, self.positive, self.threshold = model, method, positive, threshold
        self.batches = [(x.to(device), y.to(device)) for x, y in batches]
        self.on_progress = on_progress

    def clean(self) -> pd.DataFrame:
        """`image, label, prediction` and `clean_score`, without attack."""
        columns = self._over_batches("no attack", 0.0, self._clean)
        table = pd.DataFrame(dict(zip(("label", "prediction", "clean_score"), columns, strict=True)))
        table.insert(0, "image", range(len(table)))
        return table

    def largest(self) -> NDArray[np.float64]:
        """`(N,)`: the largest certified eps; 0 if there is none."""
        (found,) = self._over_batches(f"largest eps by {self.method}", 0.0, self._largest)
        return found

    def at(self, eps: float) -> dict[str, NDArray[Any]]:
        """The columns `eps, margin, certified` and `score`."""
        margin, score = self._over_batches(f"bounds by {self.method}", eps, lambda x, y: self._at(eps, x, y))
        return {"eps": np.full(len(margin), eps), "margin": margin, "certified": margin > 0, "score": score}

    def _clean(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        logits = logits_of(self.model, x)
        require_labels(y, logits.shape[1])
        score, prediction = judge(logits, y, self.positive, self.threshold)
        return y, prediction, score

    def _largest(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (
            largest_certified_eps(
                self.model, x, y, method=self.method, threshold=self.threshold, positive=self.positive
            ),
        )

    def _at(self, eps: float, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        model, method, positive = self.model, self.method, self.positive
        margin = margin_bounds(model, x, y, eps, method=method, threshold=self.threshold, positive=positive)
        return margin, score_bounds(model, x, y == positive, eps, method=method, positive=positive)

    def _over_batches(
        self, what: str, eps: float, of: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    ) -> list[NDArray[Any]]:
        """What `of` returns for each batch, joined."""
        parts, done, images = [], 0, sum(len(y) for _, y in self.batches)
        for x, y in self.batches:
            self.on_progress(Progress(what, eps, done, images))
            parts.append(of(x, y))
            done += len(y)
        self.on_progress(Progress(what, eps, done, images))
        return [torch.cat(columns).cpu().numpy() for columns in zip(*parts, strict=True)]


def _attacked(
    model: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    eps: float,
    positive: int,
    threshold: float,
    seed: int,
    on_progress: OnProgress,
) -> pd.DataFrame:
    """`attacked_prediction` and `attacked_score`, the worst of the clean image and of APGD on the margin."""
    attacks: dict[str, Attack] = {ATTACK: APGD(eps=eps, loss="margin", steps=STEPS, random_start=False)}
    rows, _ = worst_case(
        model,
        batches,
        {ATTACK: attacks},
        positive=positive,
        threshold=threshold,
        seed=seed,
        auc=True,
        on_progress=on_progress,
    )
    return pd.DataFrame({"attacked_prediction": rows["prediction"], "attacked_score": rows[WORST_SCORE]})
