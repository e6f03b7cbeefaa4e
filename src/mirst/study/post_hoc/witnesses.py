"""Witnesses of every misclassified image of a finished study, by the model of its fold."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from mirst.attacks import APGD, Attack
from mirst.evaluation import Progress, find_witnesses
from mirst.evaluation.judge import at_threshold
from mirst.evaluation.progress import OnProgress
from mirst.files import atomic, harmless, write_text
from mirst.nn.device import default_device
from mirst.random_draws import seeded
from mirst.study.layout import SUITES, StudyFolder, TrialFolder
from mirst.study.misclassified_rows import misclassified_rows, uncovered
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse
from mirst.study.prepared import Prepared
from mirst.study.results import read_csv
from mirst.study.trial import Trial

TABLE = "witnesses"
COLUMNS = ["source", "image", "attack", "eps", "unit", "prediction", "lead"]
TENSOR = "steps"


class WitnessSearch(Analysis):
    """A witness for each misclassified image and eps of a model.

    The study's own attacks are run again from the same draws. The rows that these do not witness, such as those of
    suites, are attacked with APGD at their eps.
    """

    def tables(self) -> tuple[str, ...]:
        return (TABLE,)

    def end_marks(self) -> tuple[str, ...]:
        return (f"{TABLE}.json",)

    def is_done(self, folder: TrialFolder) -> bool:
        record = folder.witnesses_record
        return record.exists() and json.loads(record.read_text(encoding="utf-8")) == _digests(folder)

    def inputs(self, trial: Trial, prepared: Prepared, study: StudyFolder) -> Iterator[Path]:
        yield from _inputs(study.trial(trial.name))

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        folder = trained.folder
        folder.witnesses_record.unlink(missing_ok=True)
        search = _Search(trained, on_progress)
        for entry in trained.prepared.spec.attacks:
            search.own(entry.label, entry.attack)
        search.again(lambda eps: APGD(eps=eps, loss="margin", random_start=False))
        search.again(lambda eps: APGD(eps=eps, loss="ce", restarts=5))
        table, steps = search.found()
        with atomic(folder.witnesses) as partial:
            partial.write_bytes(save({TENSOR: steps}))
        trained.write(TABLE, table)
        write_text(folder.witnesses_record, json.dumps(_digests(folder)))


AttackAt = Callable[[float], Attack]


def search_witnesses(folder: Path, **options: Unpack[Options]) -> StudyFolder:
    """Write `witnesses.csv`, and per trial `witnesses.safetensors`: what makes its model misclassify the images.

    `steps`, `(N, C, H, W)` in int8, belongs to the rows of the trial's `witnesses.csv`: the image moved by
    `steps * unit` and clipped to [0, 1] is within `eps` and is classified as `prediction`, with a logit that is `lead`
    above the others. Trials whose tables and model have not changed since an earlier call are not run again.

    Args:
        folder, options: as for `attack_study`.

    Raises:
        MirstError: no finished study, or other images.
    """
    return analyse(WitnessSearch(), folder, **options)


class _Search:
    """The witnesses of one model so far."""

    def __init__(self, trained: TrainedModel, on_progress: OnProgress) -> None:
        self.trained, self.on_progress = trained, on_progress
        self.model, self.classes = trained.model, trained.prepared.classes
        self.positive, self.threshold = trained.prepared.positive_index, trained.card.threshold
        names = [(harmless(record.source), harmless(record.name)) for record in trained.records]
        self.at = {name: position for position, name in enumerate(names)}
        self.wanted = misclassified_rows(_tables(trained.folder)).sort_values("eps", kind="stable", ignore_index=True)
        self.rows = pd.DataFrame(columns=COLUMNS)
        self.steps: list[Tensor] = []
        self.batches = [(x.to(default_device()), y.to(default_device())) for x, y in trained.batches()]
        self.x = torch.cat([x for x, _ in self.batches])
        self.y = torch.cat([y for _, y in self.batches])

    def own(self, label: str, attack: Attack) -> None:
        """Run an attack of the study as its evaluation did, for its rows."""
        mine = self.wanted[self.wanted["attack"] == label]
        rows = uncovered(mine, self.rows)
        if rows.empty:
            return
        generator, parts, done = torch.Generator().manual_seed(self.trained.trial.seed), [], 0
        with seeded(self.trained.trial.seed, self.x.device):
            for x, y in self.batches:
                self.on_progress(Progress(label, attack.eps, done, len(self.x)))
                parts.append(attack(self.model, x, y, generator=generator))
                done += len(x)
        self._keep(rows, torch.cat(parts)[self._positions(rows)])

    def again(self, attack_at: AttackAt) -> None:
        """Search for the rows that have no witness, smallest eps first."""
        for eps in sorted(set(self.wanted["eps"])):
            rows = uncovered(self.wanted[self.wanted["eps"] == eps], self.rows).drop_duplicates(["source", "image"])
            if rows.empty:
                continue
            attack, at = attack_at(float(eps)), self._positions(rows)
            self.on_progress(Progress("witnesses", attack.eps, 0, len(rows)))
            model = at_threshold(self.model, self.positive, self.threshold)
            generator = torch.Generator().manual_seed(self.trained.trial.seed)
            self._keep(rows, attack(model, self.x[at], self.y[at], generator=generator))

    def found(self) -> tuple[pd.DataFrame, Tensor]:
        shape = self.x.shape[1:]
        return self.rows, torch.stack(self.steps) if self.steps else torch.zeros((0, *shape), dtype=torch.int8)

    def _positions(self, rows: pd.DataFrame) -> list[int]:
        return [self.at[name] for name in zip(rows["source"], rows["image"], strict=True)]

    def _keep(self, rows: pd.DataFrame, attacked: Tensor) -> None:
        wrong = torch.tensor([self.classes.index(name) for name in rows["prediction"]], device=self.x.device)
        eps = rows["eps"].to_numpy(dtype=np.float64)
        x = self.x[self._positions(rows)]
        kept = find_witnesses(self.model, x, attacked, wrong, eps, positive=self.positive, threshold=self.threshold)
        new = rows.assign(unit=kept.unit, lead=kept.lead)[COLUMNS][kept.found]
        self.rows = new if self.rows.empty else pd.concat([self.rows, new], ignore_index=True)
        self.steps += list(kept.steps[kept.found])


def _tables(folder: TrialFolder) -> dict[str, pd.DataFrame]:
    return {
        name: read_csv(path) for name in ("outcomes", *SUITES, "certificates") if (path := folder.table(name)).exists()
    }


def _inputs(folder: TrialFolder) -> list[Path]:
    paths = [folder.model, *(folder.table(name) for name in ("outcomes", *SUITES, "certificates"))]
    return [path for path in paths if path.exists()]


def _digests(folder: TrialFolder) -> dict[str, str]:
    """What the witnesses of a trial belong to."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in _inputs(folder)}
