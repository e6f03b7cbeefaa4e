"""Runs a suite and the paper's protocol on a model at every eps, and checks the result for gradient masking."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks import StandIns
from mirst.attacks.base import PAPER_EPS
from mirst.attacks.stand_in import resolved, standing_in
from mirst.batches import Loader, checked_batches
from mirst.errors import MirstError, suggestion
from mirst.evaluation.judge import at_threshold
from mirst.evaluation.masking import check_masking
from mirst.evaluation.masking.check import Check
from mirst.evaluation.outcomes import CLEAN, evaluate
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.evaluation.suites import AttackSuite, SuiteName, adaptive, paper, standard
from mirst.evaluation.worst_case import ROBUST, worst_case
from mirst.evaluation.worst_score import pushes_score
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of

MASKING_IMAGES = 64


@dataclass(frozen=True)
class Robustness:
    """What `robustness` returns.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> found = robustness(model, [(torch.rand(1, 1, 2, 2), torch.tensor([0]))], "paper", check=False)
    >>> found.rows["attack"].unique().tolist(), found.checks
    (['none', 'paper'], ())
    """

    rows: pd.DataFrame
    """The rows of `worst_case`: clean ("none"), then for each eps the worst of the paper's attacks ("paper")
    and of each stage of the suite."""
    costs: pd.DataFrame
    """`suite, eps, attack, images` (that it ran on), `broken` (that it misclassified), `seconds`."""
    checks: tuple[Check, ...]
    """For gradient masking, at `checked_eps`."""
    checked_eps: float
    left_out: tuple[str, ...]
    """Attacks that do not apply to this model, and why."""


def robustness(
    model: nn.Module,
    data: Loader,
    name: SuiteName,
    eps: Sequence[float] = (PAPER_EPS,),
    *,
    source: nn.Module | None = None,
    stand_ins: StandIns | None = None,
    draws: int = 1,
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    check: bool = True,
    auc: bool = False,
    on_progress: OnProgress = no_progress,
) -> Robustness:
    """Attack `model` with the suite `name` at every `eps`, and `check` the result for gradient masking.

    A model that draws at random is evaluated on one draw for each call, seeded, so that a run can be repeated.

    Args:
        model, positive, threshold, seed: as in `evaluate`.
        data: as in `evaluate`; iterated once.
        eps: radii above 0, in units of the [0, 1] pixel range.
        source: the model that the adaptive suite transfers attacks from.
        stand_ins: for the adaptive suite: for each layer without a useful gradient, the module that is differentiated
            in its place (`mirst.attacks.StandIn`).
        draws: for the adaptive suite: number of calls of a randomised model that a gradient is averaged over
            (`mirst.attacks.Expectation`).
        check: check for gradient masking, and warn of flaws of the model, as `evaluate` does.
        auc, on_progress: as in `worst_case`. The worst score of a clean row is its score.

    Raises:
        MirstError, RuntimeError: as `evaluate`; no eps, or one that is out of range or named twice; stand-ins or draws
            for another suite, or stand-ins that do not fit the model.
    """
    if name not in get_args(SuiteName):
        raise MirstError(f"there is no suite {name}{suggestion(str(name), get_args(SuiteName))}")
    require_eps(eps)
    if name != "adaptive" and (stand_ins or draws != 1):
        raise MirstError(f"stand-ins and draws are for the adaptive suite, not {name}; leave them out")
    stand_ins, batches = resolved(model, stand_ins or {}), list(checked_batches(data))
    with standing_in(model, stand_ins):  # so that the checks of the model see the gradients of the stand-ins
        clean = evaluate(model, batches, {}, positive=positive, threshold=threshold, seed=seed, check=check, auc=auc)
    kept = [clean.assign(broken_by=np.where(clean["label"] == clean["prediction"], ROBUST, CLEAN))]
    costs = []
    suites = {radius: _suite(name, radius, model, batches, source, stand_ins, draws) for radius in eps}
    for radius, suite in suites.items():
        for each in {"paper": paper(radius), name: suite}.values():
            rows, cost = worst_case(
                model,
                batches,
                each.stages,
                positive=positive,
                threshold=threshold,
                seed=seed,
                auc=auc,
                on_progress=on_progress,
            )
            kept.append(rows)
            costs.append(cost)
    table = pd.concat(kept, ignore_index=True)
    checked = checked_eps(eps)
    shifted = at_threshold(model, positive, threshold)
    checks = _checks(shifted, batches, table, suites[checked], checked, stand_ins, seed, on_progress) if check else []
    left_out = (*suites[checked].left_out, *(_without_scores(suites[checked]) if auc else ()))
    return Robustness(table, pd.concat(costs, ignore_index=True), tuple(checks), checked, left_out)


def _without_scores(suite: AttackSuite) -> list[str]:
    """A sentence on the attacks that do not run on misclassified images for the AUC under attack."""
    names = [name for name, attack in suite.attacks.items() if not pushes_score(attack)]
    if not names:
        return []
    return [
        f"{', '.join(names)} on misclassified images, for the AUC under attack: "
        "FAB and Square end at a misclassification, and DLR needs more than two logits."
    ]


def checked_eps(eps: Sequence[float]) -> float:
    """The radius that the checks for gradient masking are made at: 5/255 if it is among `eps`, otherwise the largest.

    >>> checked_eps([1 / 255, 2 / 255]) == 2 / 255
    True
    """
    return PAPER_EPS if PAPER_EPS in eps else max(eps)


def require_eps(eps: Sequence[float]) -> None:
    """Raise `MirstError` unless `eps` are radii above 0 and at most 1, each given once."""
    if not isinstance(eps, Sequence):
        raise MirstError(f"eps is {eps}; give a sequence of radii, such as (5 / 255,)")
    if not eps or len(set(eps)) < len(eps) or not all(0 < radius <= 1 for radius in eps):
        given = ", ".join(f"{radius:g}" for radius in eps) or "none"
        raise MirstError(f"eps is {given}; give each radius once, above 0 and at most 1 (5/255 = 0.0196)")


def _suite(
    name: SuiteName,
    eps: float,
    model: nn.Module,
    data: Sequence[tuple[Tensor, Tensor]],
    source: nn.Module | None,
    stand_ins: StandIns,
    draws: int,
) -> AttackSuite:
    if name == "paper":
        return paper(eps)
    classes = logits_of(model, data[0][0][:1].to(device_of(model))).shape[1]
    return standard(eps, classes) if name == "standard" else adaptive(eps, classes, model, source, stand_ins, draws)


def _checks(
    model: nn.Module,
    data: Sequence[tuple[Tensor, Tensor]],
    table: pd.DataFrame,
    suite: AttackSuite,
    eps: float,
    stand_ins: StandIns,
    seed: int,
    on_progress: OnProgress,
) -> list[Check]:
    """On some of the images, evenly spaced: a data set may be sorted by class."""
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MASKING_IMAGES)).astype(int))
    rows = table[table["image"].isin(some) & table["attack"].isin([CLEAN, suite.name])]
    wrong = rows[rows["label"] != rows["prediction"]].groupby("eps").size()
    on_progress(Progress("checks for gradient masking", eps, 0, len(some)))
    checks = check_masking(
        model,
        x[some],
        y[some],
        eps=eps,
        attacks=suite.attacks,
        misclassified_by=Counter(by for by in rows.loc[rows["eps"] == eps, "broken_by"] if by != ROBUST),
        curve={radius: int(wrong.get(radius, 0)) for radius in rows["eps"].unique()},
        stand_ins=stand_ins,
        seed=seed,
    )
    on_progress(Progress("checks for gradient masking", eps, len(some), len(some)))
    return checks
