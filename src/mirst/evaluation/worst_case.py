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
from mirst.evaluation.judge import at_threshold, class_columns, judge, shifted
from mirst.evaluation.model_checks import NO_FINITE_LOGITS
from mirst.evaluation.outcomes import CLEAN, checked_distance, pushed_score, require_attacks
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.evaluation.worst_score import pushes_score, worse
from mirst.nn.device import device_of, where_float64
from mirst.nn.logits import logits_of, misclassified
from mirst.random_draws import seeded

ROBUST = ""
"""In `broken_by`: no attack misclassified the image."""
COLUMNS = ["image", "label", "attack", "eps", "prediction", "score", "linf", "broken_by"]
COSTS = ["suite", "eps", "attack", "images", "broken", "seconds"]
WORST_SCORE = "worst_score"
SCORE_COSTS = ["score_images", "score_seconds"]
# `broken_by` and `broken` are column names in tables on disk: the attack that misclassified an image, and how many


def worst_case(
    model: nn.Module,
    data: Loader,
    stages: Mapping[str, Mapping[str, Attack]],
    *,
    positive: int = 1,
    threshold: float = 0.0,
    seed: int = 0,
    auc: bool = False,
    on_progress: OnProgress = no_progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run the attacks of all `stages` one after another, and keep the worst prediction for each image.

    An image that is misclassified, clean or by an attack, is not attacked again: its first misclassification
    counts. For the other images the prediction of largest margin counts. As in `evaluate`, nothing that an
    attack claims is used.

    Args:
        model, data, positive, threshold, seed: as in `evaluate`, the images of all batches of one shape.
            The attacks see the model at its operating point, so they aim at the decision that the threshold makes.
        stages: for each stage its attacks by name. One eps for all.
        auc: also measure the worst score of each image over the clean image and all attacks
            (`mirst.evaluation.worst_score`). Every attack that can worsen a score after a misclassification runs on
            the misclassified images too, with more than two classes on all images. Predictions stay the same.
        on_progress: called with the progress of each attack, at its start and after each batch.

    Returns:
        The rows of `evaluate`, one per stage and image, with the stage's name as `attack`. `broken_by` is the attack
        that misclassified the image, "none" if the clean image is misclassified, "" if no attack did. And per attack
        `suite` (the stage), `eps, attack, images` (that it ran on), `broken` (that it misclassified) and `seconds`.
        With `auc` the rows have `worst_score`, and the costs `score_images` and `score_seconds`: the images that the
        attack ran on for their scores alone.

    Raises:
        MirstError, RuntimeError: as `evaluate`.

    >>> from mirst.attacks import FGSM
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> batch = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 1])
    >>> rows, costs = worst_case(model, [batch], {"weak": {"fgsm": FGSM()}})
    >>> rows["attack"].tolist(), costs["attack"].tolist()
    (['weak', 'weak', 'weak'], ['fgsm'])
    """
    _require_stages(stages)
    with seeded(seed, device_of(model)):
        images = _Images(model, list(checked_batches(data)), positive, threshold, auc)
        tables, costs = [], []
        for stage, attacks in stages.items():
            for name, attack in attacks.items():
                left, begin = images.correct(), time.perf_counter()
                images.attack(name, attack, torch.Generator().manual_seed(seed), on_progress)
                seconds = time.perf_counter() - begin
                costs.append([stage, attack.eps, name, len(left), len(left) - len(images.correct()), seconds])
                if auc:
                    begin = time.perf_counter()
                    costs[-1] += [images.push(name, attack, left, seed, on_progress), time.perf_counter() - begin]
            eps = max(attack.eps for attack in attacks.values())
            tables.append(images.table().assign(attack=stage, eps=eps))
    rows = pd.concat(tables, ignore_index=True)
    more = [column for column in rows if column not in COLUMNS]
    return rows[[*COLUMNS, *more]], pd.DataFrame(costs, columns=COSTS + (SCORE_COSTS if auc else []))


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
    """The worst predictions so far. The images still classified correctly are attacked in full batches."""

    def __init__(
        self, model: nn.Module, batches: list[tuple[Tensor, Tensor]], positive: int, threshold: float, auc: bool
    ) -> None:
        if not batches:
            raise MirstError("there are no images to evaluate on")
        self.model, self.positive, self.threshold, self.auc = model, positive, threshold, auc
        self.size = max(len(x) for x, _ in batches)
        if len(shapes := {tuple(x.shape[1:]) for x, _ in batches}) > 1:
            raise MirstError(
                f"the images have {len(shapes)} shapes, {' and '.join(map(str, sorted(shapes)[:2]))}; resize them"
            )
        self.x, self.y = (torch.cat(parts).to(device_of(model)) for parts in zip(*batches, strict=True))
        self.logits = torch.cat([logits_of(model, x) for x in torch.split(self.x, self.size)])
        require_labels(self.y, self.logits.shape[1])
        if not self.logits.isfinite().all(1).any():
            raise MirstError(NO_FINITE_LOGITS)
        self.linf = self.x.new_zeros(len(self.x))
        self.worst_score, _ = judge(self.logits, self.y, positive, threshold)
        wrong = misclassified(self._shifted(self.logits), self.y)
        self.misclassified_by = np.where(wrong.cpu().numpy(), CLEAN, ROBUST).astype(object)

    def correct(self) -> Tensor:
        """Positions of the images that are still classified correctly."""
        return torch.from_numpy(np.flatnonzero(self.misclassified_by == ROBUST)).to(self.x.device)

    def attack(self, name: str, attack: Attack, generator: torch.Generator, on_progress: OnProgress) -> None:
        correct, done = self.correct(), 0
        on_progress(Progress(name, attack.eps, done, len(correct)))
        for left in torch.split(correct, self.size):
            if len(left):
                self._attack(name, attack, left, generator)
                done += len(left)
                on_progress(Progress(name, attack.eps, done, len(correct)))

    def _attack(self, name: str, attack: Attack, left: Tensor, generator: torch.Generator) -> None:
        x, y = self.x[left], self.y[left]
        attacked = attack(at_threshold(self.model, self.positive, self.threshold), x, y, generator=generator)
        linf = checked_distance(name, x, attacked, attack.eps)
        logits = logits_of(self.model, attacked)
        self._keep_worse(left, judge(logits, y, self.positive, self.threshold)[0])
        after, before = self._shifted(logits), self._shifted(self.logits[left])
        wrong = misclassified(after, y)
        worse = wrong | (margin(after, y) > margin(before, y))
        self.logits[left[worse]], self.linf[left[worse]] = logits[worse], linf[worse]
        self.misclassified_by[left[wrong].cpu().numpy()] = name

    def push(self, name: str, attack: Attack, attacked: Tensor, seed: int, on_progress: OnProgress) -> int:
        """Worsen the scores that `attack` has not worsened when it ran on the images at `attacked`.

        The draws of the other passes stay the same.

        Returns:
            The number of images that the attack ran on.
        """
        if not pushes_score(attack):
            return 0
        every = torch.arange(len(self.x), device=self.x.device)
        others = every if self.logits.shape[1] > 2 else every[~torch.isin(every, attacked)]
        generator, done = torch.Generator().manual_seed(seed), 0
        with seeded(seed, device_of(self.model)):
            for at in torch.split(others, self.size):
                if len(at):
                    x, y = self.x[at], self.y[at]
                    self._keep_worse(at, pushed_score(name, self.model, attack, x, y, self.positive, generator))
                    done += len(at)
                    on_progress(Progress(f"{name} on scores", attack.eps, done, len(others)))
        return done

    def _keep_worse(self, at: Tensor, score: Tensor) -> None:
        at = at.to(self.worst_score.device)
        self.worst_score[at] = worse(self.worst_score[at], score, self.y[at] == self.positive)

    def table(self) -> pd.DataFrame:
        score, prediction = judge(self.logits, self.y, self.positive, self.threshold)
        columns = {"label": self.y, "prediction": prediction, "score": score, "linf": where_float64(self.linf).double()}
        columns |= class_columns(self.logits, self.y)
        if self.auc:
            columns[WORST_SCORE] = self.worst_score
        table = pd.DataFrame({key: value.cpu().numpy() for key, value in columns.items()})
        return table.assign(image=range(len(table)), broken_by=self.misclassified_by.copy())

    def _shifted(self, logits: Tensor) -> Tensor:
        """Logits at the operating point."""
        return shifted(logits, self.positive, self.threshold)
