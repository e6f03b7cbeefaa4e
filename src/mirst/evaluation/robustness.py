"""What a model holds against a suite: every eps from scratch, beside the paper's protocol, with masking checks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks.base import PAPER_EPS
from mirst.errors import MirstError
from mirst.evaluation.evaluate import CLEAN, device_of, evaluate, logits_of
from mirst.evaluation.masking import Check, check_masking
from mirst.evaluation.progress import Progress, Tell, ignore
from mirst.evaluation.suites import Suite, SuiteName, adaptive, paper, standard
from mirst.evaluation.worst_case import STANDS, at_threshold, worst_case

MASKING_IMAGES = 64


@dataclass(frozen=True)
class Robustness:
    rows: pd.DataFrame
    """As from `worst_case`: clean ("none"), then for each eps the worst of the paper's attacks ("paper")
    and of each stage of the suite."""
    costs: pd.DataFrame
    """`suite, eps, attack, images, broken, seconds`."""
    checks: tuple[Check, ...]
    """Of masking, at `checked_eps`."""
    checked_eps: float
    left_out: tuple[str, ...]
    """What this model cannot be attacked with, and why."""


def robustness(
    model: nn.Module,
    data: Sequence[tuple[Tensor, Tensor]],
    name: SuiteName,
    eps: Sequence[float] = (PAPER_EPS,),
    *,
    source: nn.Module | None = None,
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    check: bool = True,
    tell: Tell = ignore,
) -> Robustness:
    """Attack `model` with the suite `name` at every `eps`, and `check` the result for gradient masking.

    Args:
        model, positive, threshold, seed: as in `evaluate`.
        data: batches `(x, y)`.
        eps: radii above 0, in units of the [0, 1] pixel range.
        source: for the transfer of the adaptive suite.
        tell: as in `worst_case`.

    Raises:
        MirstError, RuntimeError: as `evaluate`; no eps, or one that is out of range or named twice.
    """
    _require_eps(eps)
    clean = evaluate(model, data, {}, positive=positive, threshold=threshold)
    kept = [clean.assign(broken_by=np.where(clean["label"] == clean["prediction"], STANDS, CLEAN))]
    costs = []
    suites = {radius: _suite(name, radius, model, data, source) for radius in eps}
    for radius, suite in suites.items():
        for one in {"paper": paper(radius), name: suite}.values():
            rows, cost = worst_case(
                model, data, one.stages, positive=positive, threshold=threshold, seed=seed, tell=tell
            )
            kept.append(rows)
            costs.append(cost)
    table = pd.concat(kept, ignore_index=True)
    checked = PAPER_EPS if PAPER_EPS in eps else max(eps)
    shifted = at_threshold(model, positive, threshold)
    checks = _checks(shifted, data, table, suites[checked], checked, seed, tell) if check else []
    return Robustness(table, pd.concat(costs, ignore_index=True), tuple(checks), checked, suites[checked].left_out)


def _require_eps(eps: Sequence[float]) -> None:
    if not eps or len(set(eps)) < len(eps) or not all(0 < radius <= 1 for radius in eps):
        given = ", ".join(f"{radius:g}" for radius in eps) or "none"
        raise MirstError(f"eps is {given}; name each radius once, above 0 and at most 1 (5/255 = 0.0196)")


def _suite(
    name: SuiteName, eps: float, model: nn.Module, data: Sequence[tuple[Tensor, Tensor]], source: nn.Module | None
) -> Suite:
    if name == "paper":
        return paper(eps)
    classes = logits_of(model, data[0][0][:1].to(device_of(model))).shape[1]
    return standard(eps, classes) if name == "standard" else adaptive(eps, classes, model, source)


def _checks(
    model: nn.Module,
    data: Sequence[tuple[Tensor, Tensor]],
    table: pd.DataFrame,
    suite: Suite,
    eps: float,
    seed: int,
    tell: Tell,
) -> list[Check]:
    """On some of the images, evenly spaced: a data set may come class by class."""
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MASKING_IMAGES)).astype(int))
    rows = table[table["image"].isin(some) & table["attack"].isin([CLEAN, suite.name])]
    wrong = rows[rows["label"] != rows["prediction"]].groupby("eps").size()
    tell(Progress("checks for gradient masking", eps, 0, len(some)))
    checks = check_masking(
        model,
        x[some],
        y[some],
        eps=eps,
        attacks=suite.attacks,
        first_broken=Counter(by for by in rows.loc[rows["eps"] == eps, "broken_by"] if by != STANDS),
        curve={radius: int(wrong.get(radius, 0)) for radius in rows["eps"].unique()},
        seed=seed,
    )
    tell(Progress("checks for gradient masking", eps, len(some), len(some)))
    return checks
