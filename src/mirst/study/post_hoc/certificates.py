"""Certificates of the models of a finished study, on the test images of their folds."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from mirst.evaluation import Progress, certified_rows, certify, metrics_of, named_certificates
from mirst.evaluation.progress import OnProgress
from mirst.files import atomic, write_text
from mirst.metrics import study_metrics
from mirst.nn import CertifiedMetrics, ModelCard, save_model
from mirst.study.engines.base import Engine
from mirst.study.layout import SUITES, StudyFolder, TrialFolder
from mirst.study.post_hoc.base import Analysis, Options, TrainedModel, analyse, analyse_prepared
from mirst.study.post_hoc.card import card_inputs, extend_card
from mirst.study.post_hoc.suites import write_checks
from mirst.study.prepared import Prepared
from mirst.study.trial import Trial

TABLE = "certificates"
PICTURES = 6
"""Images of each kind that are kept of a trial."""


@dataclass(frozen=True)
class Certification(Analysis):
    """Certificates of a model, which its checkpoint and its card name too."""

    eps: tuple[float, ...]
    method: str

    def tables(self) -> tuple[str, ...]:
        return (TABLE,)

    def end_marks(self) -> tuple[str, ...]:
        return (f"{TABLE}.json",)

    def is_done(self, folder: TrialFolder) -> bool:
        return folder.certificates_record.exists() and set(self.eps) <= self._radii(folder)

    def inputs(self, trial: Trial, prepared: Prepared, study: StudyFolder) -> list[Path]:
        folder = study.trial(trial.name)
        return [folder.model, folder.certificates_record, *card_inputs(folder)]

    def run(self, trained: TrainedModel, study: StudyFolder, on_progress: OnProgress) -> None:
        prepared, folder = trained.prepared, trained.folder
        eps = sorted(self._radii(folder) | set(self.eps))
        folder.certificates_record.unlink(missing_ok=True)
        rows = certify(
            trained.model,
            trained.batches(),
            eps,
            method=self.method,
            positive=prepared.positive_index,
            threshold=trained.card.threshold,
            seed=trained.trial.seed,
            on_progress=on_progress,
        )
        named = named_certificates(rows, trained.records, prepared.classes)
        _save_images(trained, rows)
        trained.write(TABLE, named)
        save_model(folder.model, trained.model, replace(trained.card, certified=certified_figures(named, trained.card)))
        extend_card(trained)
        write_text(folder.certificates_record, json.dumps({"eps": eps, "method": self.method}))

    def finish(self, study: StudyFolder, trials: Sequence[Trial], prepared: Prepared, on_progress: OnProgress) -> None:
        for suite in SUITES:
            if study.checks(suite).exists():
                write_checks(study, trials, suite)

    def _radii(self, folder: TrialFolder) -> set[float]:
        """The radii at which the trial has certificates by this method."""
        path = folder.certificates_record
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"method": ""}
        return set(record["eps"]) if record["method"] == self.method else set()


def _save_images(trained: TrainedModel, rows: pd.DataFrame) -> None:
    """Keep the images that are certified farthest, and those classified correctly that are certified at no eps."""
    images = rows[rows["eps"] == rows["eps"].iloc[0]]
    correct = images[images["prediction"] == images["label"]]
    far = correct[correct["largest_eps"] > 0].sort_values("largest_eps", ascending=False, kind="stable")
    nowhere = correct[correct["largest_eps"] == 0].sort_values("margin", kind="stable")
    chosen = [*far.index[:PICTURES], *nowhere.index[:PICTURES]]
    clean, _ = trained.images[chosen]
    with atomic(trained.folder.certificate_images) as target, target.open("wb") as file:
        np.savez_compressed(file, rows=np.array(chosen, dtype=int), clean=(255 * clean).round().byte().numpy())


def certify_study(
    folder: Path,
    eps: Sequence[float],
    *,
    method: str = "interval",
    **options: Unpack[Options],
) -> Path:
    """Write `certificates.csv`: per trial the table of `named_certificates`.

    The figures are added to the checkpoint and the model card of each trial. Certificates of an earlier call by the
    same method are kept; those by another method are replaced. Trials that already have what is asked are not run
    again. The checks for gradient masking of the study's suites are settled where certificates settle them.

    Args:
        folder, options: as for `attack_study`.
        eps, method: as for `certify`.

    Returns:
        The path of `certificates.csv`.

    Raises:
        MirstError: no finished study, other images, or as `certify`.
        RuntimeError: as `certify`.
    """
    return analyse(Certification(tuple(eps), method), folder, **options).certificates


def certify_prepared(
    study: StudyFolder,
    prepared: Prepared,
    engine: Engine,
    on_progress: Callable[[str, Progress], None] | None,
) -> None:
    """`certify_study` at the study's own radii, with the data that are in memory already."""
    analysis = Certification(prepared.spec.certify, "interval")
    analyse_prepared(analysis, study, prepared, engine, None, on_progress)


def certified_figures(named: pd.DataFrame, card: ModelCard) -> tuple[CertifiedMetrics, ...]:
    """What the card of a model says of its certificates, rows of `named_certificates`."""
    measured = metrics_of(certified_rows(named, card.classes, card.positive), card).to_dict("records")
    return tuple(
        CertifiedMetrics(
            eps=float(one["eps"]),
            method=str(named["method"].iloc[0]),
            images=int((named["eps"] == one["eps"]).sum()),
            metrics={name: float(one[name]) for name in study_metrics(card.positive) if np.isfinite(one[name])},
        )
        for one in measured
    )
