"""The worst of several attacks, image by image."""

import time
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mirst.attacks import Attack
from mirst.attacks.losses import margin
from mirst.batches import Loader, checked_batches, require_labels
from mirst.errors import MirstError
from mirst.evaluation.judge import at_threshold, judge, seeded, shifted
from mirst.evaluation.model_checks import NO_ANSWER
from mirst.evaluation.outcomes import CLEAN, checked_distance, require_attacks
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.evaluation.summary import TRIAL
from mirst.nn.device import device_of
from mirst.nn.logits import logits_of, misclassified

ROBUST = ""
COLUMNS = ["image", "label", "attack", "eps", "prediction", "score", "linf", "broken_by"]
COSTS = ["suite", "eps", "attack", "images", "broken", "seconds"]


def worst_case(
    model: nn.Module,
    data: Loader,
    stages: Mapping[str, Mapping[str, Attack]],
    *,
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    on_progress: OnProgress = no_progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the attacks of all `stages` one after another on what still stands, and keep the worst answers.

    An image that is misclassified, clean or by an attack, is not attacked again: the first answer
    that breaks it counts. For the others the answer of largest margin counts. As in `evaluate`, no
    attack is believed.

    Args:
        model, data, positive, threshold, seed: as in `evaluate`, the images of all batches of one shape.
            The attacks see the model at its operating point: what they push over the line is what
            the threshold decides.
        stages: attacks by name, under the name of the stage. One eps for all.
        on_progress: gets how far each attack has come, at its start and after each batch.

    Returns:
        The rows of `evaluate`, one per stage and image: the stage's name as the `attack`, and as
        `broken_by` the attack that broke it, "none" where the clean image is misclassified, "" where it
        stands. And per attack `suite` (the stage), `eps, attack, images` (that it was run on), `broken`
        and `seconds`.

    Raises:
        MirstError, RuntimeError: as `evaluate`.
    """
    _require_stages(stages)
    with seeded(seed, device_of(model)):
        images = _Images(model, list(checked_batches(data)), positive, threshold)
        tables, costs = [], []
        for stage, attacks in stages.items():
            for name, attack in attacks.items():
                left, begin = images.standing(), time.perf_counter()
                images.attack(name, attack, torch.Generator().manual_seed(seed), on_progress)
                seconds = time.perf_counter() - begin
                costs.append((stage, attack.eps, name, len(left), len(left) - len(images.standing()), seconds))
            eps = max(attack.eps for attack in attacks.values())
            tables.append(images.table().assign(attack=stage, eps=eps))
    return pd.concat(tables, ignore_index=True)[COLUMNS], pd.DataFrame(costs, columns=COSTS)


def _require_stages(stages: object) -> None:
    if not isinstance(stages, Mapping):
        raise MirstError(
            f"stages must have names, but are of type {type(stages).__name__}; give {{'standard': {{'pgd': PGD()}}}}"
        )
    if not stages or any(isinstance(attacks, Mapping) and not attacks for attacks in stages.values()):
        raise MirstError("a stage has no attacks; give {'standard': {'pgd': PGD()}}")
    for name, attacks in stages.items():
        if name in ("", CLEAN):
            raise MirstError(f"a stage has the name {name!r}; give another one: {CLEAN!r} and '' mean no attack")
        require_attacks(attacks, f"the attacks of stage {name}")


class _Images:
    """The worst answers so far. What still stands is attacked in full batches, however few each first batch left."""

    def __init__(self, model: nn.Module, batches: list[tuple[Tensor, Tensor]], positive: int, threshold: float) -> None:
        if not batches:
            raise MirstError("there are no images to evaluate on")
        self.model, self.positive, self.threshold = model, positive, threshold
        self.size = max(len(x) for x, _ in batches)
        if len(shapes := {tuple(x.shape[1:]) for x, _ in batches}) > 1:
            raise MirstError(
                f"the images have {len(shapes)} shapes, {' and '.join(map(str, sorted(shapes)[:2]))}; bring them to one"
            )
        self.x, self.y = (torch.cat(parts).to(device_of(model)) for parts in zip(*batches, strict=True))
        self.logits = torch.cat([logits_of(model, x) for x in torch.split(self.x, self.size)])
        require_labels(self.y, self.logits.shape[1])
        if not self.logits.isfinite().all(1).any():
            raise MirstError(NO_ANSWER)
        self.linf = self.x.new_zeros(len(self.x))
        wrong = misclassified(self._shifted(self.logits), self.y)
        self.broken_by = np.where(wrong.cpu().numpy(), CLEAN, ROBUST).astype(object)

    def standing(self) -> Tensor:
        """Positions of the images that nothing has broken."""
        return torch.from_numpy(np.flatnonzero(self.broken_by == ROBUST)).to(self.x.device)

    def attack(self, name: str, attack: Attack, generator: torch.Generator, on_progress: OnProgress) -> None:
        standing, done = self.standing(), 0
        on_progress(Progress(name, attack.eps, done, len(standing)))
        for left in torch.split(standing, self.size):
            if len(left):
                self._attack(name, attack, left, generator)
                done += len(left)
                on_progress(Progress(name, attack.eps, done, len(standing)))

    def _attack(self, name: str, attack: Attack, left: Tensor, generator: torch.Generator) -> None:
        x, y = self.x[left], self.y[left]
        attacked = attack(at_threshold(self.model, self.positive, self.threshold), x, y, generator=generator)
        linf = checked_distance(name, x, attacked, attack.eps)
        logits = logits_of(self.model, attacked)
        after, before = self._shifted(logits), self._shifted(self.logits[left])
        wrong = misclassified(after, y)
        worse = wrong | (margin(after, y) > margin(before, y))
        self.logits[left[worse]], self.linf[left[worse]] = logits[worse], linf[worse]
        self.broken_by[left[wrong].cpu().numpy()] = name

    def table(self) -> pd.DataFrame:
        score, prediction = judge(self.logits, self.y, self.positive, self.threshold)
        columns = {"label": self.y, "prediction": prediction, "score": score, "linf": self.linf.double()}
        table = pd.DataFrame({key: value.cpu().numpy() for key, value in columns.items()})
        return table.assign(image=range(len(table)), broken_by=self.broken_by.copy())

    def _shifted(self, logits: Tensor) -> Tensor:
        """Logits at the operating point."""
        return shifted(logits, self.positive, self.threshold)


def worst_rows(rows: pd.DataFrame, name: str, positive: str) -> pd.DataFrame:
    """Of rows of several attacks, the worst for each image of each trial, under the attack `name`.

    A wrong answer counts before a right one, then the score that is farthest on the wrong side.

    Args:
        rows: attacked rows of a study, with the columns of its trials.
    """
    away = rows["score"].where(rows["label"] != positive, -rows["score"])
    ordered = rows.assign(wrong=rows["label"] != rows["prediction"], away=away).sort_values(["wrong", "away"])
    worst = ordered.groupby([*TRIAL, "source", "image"], sort=False).tail(1).sort_index()
    return worst.drop(columns=["wrong", "away"]).assign(attack=name, eps=rows["eps"].max())
