"""Rows without attack, witnesses and certificates, computed again from the models and the images."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mirst.bounds import margin_bounds, score_bounds
from mirst.dossier.answers import Answer, Verdict, judged
from mirst.dossier.check_rows import rows_of
from mirst.dossier.check_witnesses import TrialWitnesses
from mirst.dossier.found_images import FoundImages
from mirst.dossier.image_table import keys_of
from mirst.evaluation import CLEAN, witness_images
from mirst.evaluation.judge import in_batches, judge
from mirst.evaluation.witnesses import leads, rounding
from mirst.nn import ModelCard
from mirst.study.results import Results
from mirst.study.trial import Trial

Mask = NDArray[np.bool_]
BATCH = 64
SAME_BOUND = 1e-4
"""Share of a bound by which machines may differ."""
NEAR_ZERO = 1e-6
"""Of a bound: rounding on another machine may decide its sign."""


@dataclass
class Tally:
    """What the models of a dossier said."""

    right: int = 0
    close: int = 0
    """So close that rounding decides."""
    faults: list[str] = field(default_factory=list)

    def answers(self, claim: str, verdict: Verdict, detail: str) -> list[Answer]:
        found = [judged(claim, self.faults, verdict, f"{self.right} {detail}")]
        if self.close:
            found.append(
                Answer(Verdict.UNCHECKED, claim, f"{self.close} are so close that rounding decides on each machine")
            )
        return found


class ModelChecks:
    """The checks of every model, one model at a time."""

    def __init__(self, results: Results, certificates: pd.DataFrame | None, found: FoundImages) -> None:
        self.results, self.certificates, self.images = results, certificates, found
        self.clean, self.witnesses, self.bounds, self.largest = Tally(), Tally(), Tally(), Tally()

    def add(self, trial: Trial, model: nn.Module, card: ModelCard, witnesses: TrialWitnesses) -> None:
        self._clean(trial, model, card)
        self._witnesses(trial, model, card, witnesses)
        if self.certificates is not None:
            self._certificates(trial, model, card)

    def answers(self) -> list[Answer]:
        answers = [
            *self.clean.answers(
                "rows without attack", Verdict.RECOMPUTED, "scores and predictions were computed again"
            ),
            *self.witnesses.answers("witnesses", Verdict.PROVED, "misclassify their images"),
        ]
        if self.certificates is not None:
            answers += self.bounds.answers("bounds", Verdict.PROVED, "were computed again; those above 0 certify")
            answers += self.largest.answers("largest eps", Verdict.PROVED, "images are certified at their largest eps")
        return answers

    def _clean(self, trial: Trial, model: nn.Module, card: ModelCard) -> None:
        rows = rows_of(self.results.outcomes, trial)
        rows, x, y = self._batch(rows[rows["attack"] == CLEAN], card)
        if rows.empty:
            return
        logits = in_batches(model, x).cpu()
        score, _ = judge(logits, y, card.positive_index, card.threshold)
        near = rounding(model, logits).cpu().numpy()
        off = score.cpu().numpy() - rows["score"].to_numpy(dtype=float)
        stated = _indices(rows["prediction"], card)
        lead = leads(logits, stated, card.positive_index, card.threshold).cpu().numpy()
        wrong = (np.abs(off) > near) | (lead < -near)
        self._count(
            self.clean, trial, rows, wrong, ~wrong & (lead < 0), "does not have the score and prediction of its model"
        )

    def _witnesses(self, trial: Trial, model: nn.Module, card: ModelCard, witnesses: TrialWitnesses) -> None:
        if witnesses.rows.empty:
            return
        rows, x, _ = self._batch(witnesses.rows.assign(label=card.classes[0]), card)
        if rows.empty:
            return
        steps = witnesses.steps[rows["at"].tolist()]
        moved = witness_images(x, steps, rows["unit"].to_numpy(dtype=float, copy=True))
        logits = in_batches(model, moved).cpu()
        lead = leads(logits, _indices(rows["prediction"], card), card.positive_index, card.threshold).cpu().numpy()
        near = rounding(model, logits).cpu().numpy()
        self._count(
            self.witnesses,
            trial,
            rows,
            lead < -near,
            np.abs(lead) <= near,
            "has a witness that does not misclassify it",
        )

    def _certificates(self, trial: Trial, model: nn.Module, card: ModelCard) -> None:
        assert self.certificates is not None
        own = rows_of(self.certificates, trial)
        for _, part in own.groupby(["eps", "method"]):
            for rows, x, y in self._batches(part, card):
                self._bounds(trial, model, card, rows, x, y)
        once = own.drop_duplicates(["source", "image"])
        for rows, x, y in self._batches(once[once["largest_eps"] > 0], card):
            margin = _margins(model, card, rows, x, y, rows["largest_eps"])
            wrong, close = margin < -NEAR_ZERO, np.abs(margin) <= NEAR_ZERO
            self._count(self.largest, trial, rows, wrong, close, "is not certified at its largest_eps")

    def _bounds(
        self, trial: Trial, model: nn.Module, card: ModelCard, rows: pd.DataFrame, x: Tensor, y: Tensor
    ) -> None:
        margin = _margins(model, card, rows, x, y, rows["eps"])
        off = ~_close(margin, rows["margin"])
        if len(card.classes) > 2:  # with two, `check_certificate_rows` has compared it with the margin
            eps, method = float(rows["eps"].iloc[0]), str(rows["method"].iloc[0])
            is_positive = y == card.positive_index
            score = score_bounds(model, x, is_positive, eps, method=method, positive=card.positive_index).numpy()
            off |= ~_close(score, rows["score"])
        certified = rows["certified"].astype(bool).to_numpy()
        wrong = off | (certified & (margin < -NEAR_ZERO))
        close = ~wrong & certified & (margin <= NEAR_ZERO)
        self._count(self.bounds, trial, rows, wrong, close, "does not have the bounds of its model")

    def _batches(self, rows: pd.DataFrame, card: ModelCard) -> Iterator[tuple[pd.DataFrame, Tensor, Tensor]]:
        for start in range(0, len(rows), BATCH):
            found, x, y = self._batch(rows.iloc[start : start + BATCH], card)
            if len(found):
                yield found, x, y

    def _batch(self, rows: pd.DataFrame, card: ModelCard) -> tuple[pd.DataFrame, Tensor, Tensor]:
        """Those rows whose images were found, in `at` their places before, with images and labels."""
        there, x = self.images.batch(keys_of(rows))
        found = rows.iloc[there].assign(at=np.array(there, dtype=np.int64))
        return found, x, _indices(found["label"], card)

    def _count(self, tally: Tally, trial: Trial, rows: pd.DataFrame, wrong: Mask, close: Mask, what: str) -> None:
        tally.right += int((~wrong & ~close).sum())
        tally.close += int(close.sum())
        tally.faults += [f"{name} ({trial.name}) {what}" for name in rows["image"].to_numpy()[wrong]]


def _margins(
    model: nn.Module, card: ModelCard, rows: pd.DataFrame, x: Tensor, y: Tensor, eps: pd.Series
) -> NDArray[np.float64]:
    """The bounds of the rows' method, each at its own eps."""
    method, positive = str(rows["method"].iloc[0]), card.positive_index
    each = torch.tensor(eps.to_numpy(dtype=np.float64).copy())
    bounds = margin_bounds(model, x, y, each, method=method, threshold=card.threshold, positive=positive)
    return bounds.numpy()


def _indices(names: pd.Series, card: ModelCard) -> Tensor:
    return torch.tensor([card.classes.index(name) for name in names], dtype=torch.long)


def _close(own: NDArray[np.float64], stated: pd.Series) -> Mask:
    close: Mask = np.isclose(own, stated.to_numpy(dtype=float), rtol=SAME_BOUND, atol=SAME_BOUND, equal_nan=True)
    return close
