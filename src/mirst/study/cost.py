"""What the pieces of a trial cost, measured in a worker on the study's own data without training to the end."""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low

import numpy as np
import torch

from mirst.attacks import FGSM, Attack
from mirst.bounds import margin_bounds
from mirst.data import data_loader
from mirst.defenses import Defense
from mirst.defenses.base import has_eps
from mirst.evaluation import certify
from mirst.nn.device import default_device
from mirst.study.engines.base import Send, Work
from mirst.study.engines.memory import forget_peak_memory, peak_memory
from mirst.study.initial_model import initial_model
from mirst.study.layout import StudyFolder
from mirst.study.prepared import EVALUATION_BATCH, Prepared, training_shares
from mirst.study.trial import Trial
from mirst.study.trial_outcomes import outcome_rows
from mirst.training import Training, TrainingRun
from mirst.training.selection import selection_attack
from mirst.training.validation import logits_on

SECONDS = 0.3
"""Runs of a piece are repeated this long."""
LONGEST = 3.0
"""A piece that takes longer than this on a few images is neither repeated nor given more of them."""
FEW = 2
"""Images that a piece of unknown cost begins with."""


SEARCHED = 7
"""Bounds that the search of an image's largest certified eps takes, beyond the two of an image that has none."""

ALIKE = ("setup", "clean_pass", "selection", "checkpoint", "evaluation", "certificate")
"""Pieces that cost the same whatever the defense, on one model."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of the pieces of one trial, in one worker."""

    worker: str
    """Its machine and process."""
    began: float
    """When it began with this trial, by `time.time`, which machines share."""
    setup: float
    """Seconds to build the model and split the data."""
    clean_step: float
    """Seconds to train on an image in the warm-up."""
    step: float
    """Seconds to train on an image at full eps."""
    clean_pass: float
    """Seconds to answer an image."""
    selection: float
    """Seconds to attack and answer a validation image, where `select` or `threshold` asks for it."""
    checkpoint: float
    """Seconds to write the state of the training."""
    evaluation: float
    """Seconds to answer a test image, clean and under every attack."""
    certificate: float
    """Seconds to certify a test image at every eps of the study's key `certify`, and to attack it there."""
    first: float
    """Seconds that the first runs of all these took beyond later ones."""
    memory: int
    """Peak of the process, in bytes."""
    gpu_memory: int
    """Peak of what torch held on the GPU, in bytes."""


def clean_epochs(settings: Training, defense: Defense) -> int:
    """How many epochs `defense` trains on clean images alone: the warm-up, if it has an eps."""
    shares = [settings.eps_share(epoch) for epoch in range(settings.epochs)]
    return shares.count(0.0) if has_eps(defense) else 0


def selection_epochs(settings: Training) -> int:
    """How many epochs end with an attack on the validation images."""
    shares = [settings.eps_share(epoch) for epoch in range(settings.epochs)]
    return shares.count(1.0) if settings.select != "last" else 0


class Measure(Work[Cost]):
    """Run every piece of a trial on its own images.

    A piece is repeated for a moment; one that takes seconds runs once, on few images if it can.
    """

    def __call__(self, trial: Trial, prepared: Prepared, study: StudyFolder, send: Send) -> Cost:
        return measure(trial, prepared)


def measure(trial: Trial, prepared: Prepared) -> Cost:
    """What the pieces of `trial` cost."""
    began = time.time()
    forget_peak_memory()
    pieces, watch = _Pieces(trial, prepared), _Watch()
    setup = watch.pace(lambda _: pieces.set_up(), 1, 1)
    pieces.answer(EVALUATION_BATCH, FGSM())  # its memory, however few images the pieces below take at once
    settings, defense = prepared.spec.training, trial.entry.defense
    selection, full_eps = selection_attack(defense), settings.epochs - 1
    batch, several = settings.batch_size, min(4 * settings.batch_size, len(pieces.own))
    most = min(EVALUATION_BATCH, len(pieces.test))
    has_warmup = clean_epochs(settings, defense) > 0
    selects = selection_epochs(settings) > 0 or settings.operating_point.robust
    return Cost(
        worker=f"{platform.node()}:{os.getpid()}",
        began=began,
        setup=setup,
        clean_step=watch.pace(lambda count: pieces.train(0, count), batch, several) if has_warmup else 0.0,
        step=watch.pace(lambda count: pieces.train(full_eps, count), batch, several),
        clean_pass=watch.pace(pieces.answer, FEW, most),
        selection=watch.pace(lambda count: pieces.answer(count, selection), FEW, most) if selects else 0.0,
        checkpoint=watch.pace(lambda _: pieces.save(), 1, 1),
        evaluation=watch.pace(pieces.evaluate, FEW, most),
        certificate=_certificate(pieces, watch, most) if prepared.spec.certify else 0.0,
        first=watch.first,
        memory=peak_memory(),
        gpu_memory=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    )


def _certificate(pieces: "_Pieces", watch: "_Watch", most: int) -> float:
    """Of a model that is trained: one that is not certifies nothing, and its search ends at once."""
    return watch.pace(pieces.certify, FEW, most) + SEARCHED * watch.pace(pieces.bound, FEW, most)


class _Pieces:
    """The pieces of a trial, each on as many images as one says."""

    def __init__(self, trial: Trial, prepared: Prepared) -> None:
        self.trial, self.prepared = trial, prepared
        # the pieces cost the same at any rate, and at none does a study's diverge
        self.settings = replace(prepared.spec.training, lr=1e-12)

    def set_up(self) -> None:
        entry, prepared = self.trial.entry, self.prepared
        fold = prepared.folds[self.trial.fold]
        self.model, _ = initial_model(
            prepared.spec,
            len(prepared.classes),
            entry.drop_max,
            self.trial.seed,
            prepared.weights_file,
            positive=prepared.positive_index,
        )
        self.model.to(default_device())
        self.run = TrainingRun(self.model, entry.defense, self.settings, extensions=self.settings.loop_extensions)
        mixed = np.random.default_rng(0).permutation  # files come class by class
        own, _ = training_shares(prepared, fold.train)
        self.own, self.test = mixed(own), mixed(fold.test)

    def train(self, epoch: int, count: int) -> None:
        data = self.prepared.subset(self.own[:count], self.settings.augmentation)
        self.run.train_epoch(data_loader(data, self.settings.batch_size, shuffle=True), epoch)

    def answer(self, count: int, attack: Attack | None = None) -> None:
        logits_on(self.model, data_loader(self.prepared.subset(self.test[:count]), EVALUATION_BATCH), attack)

    def save(self) -> None:
        self.run.best_weights = self.model.state_dict() if selection_epochs(self.settings) else None
        with tempfile.TemporaryDirectory() as folder:
            self.run.save(Path(folder) / "state.pt")

    def evaluate(self, count: int) -> None:
        outcome_rows(self.model, self.prepared, self.test[:count], 0.0, self.trial.seed)

    def certify(self, count: int) -> None:
        data = data_loader(self.prepared.subset(self.test[:count]), EVALUATION_BATCH)
        certify(self.model, data, self.prepared.spec.certify, positive=self.prepared.positive_index)

    def bound(self, count: int) -> None:
        images, labels = self.prepared.subset(self.test[:count])[list(range(count))]
        margin_bounds(self.model, images, torch.as_tensor(labels), self.prepared.spec.certify[0])


class _Watch:
    """Times pieces."""

    def __init__(self) -> None:
        self.first = 0.0
        """Seconds that first runs took beyond later ones, over all pieces."""

    def pace(self, run: Callable[[int], object], few: int, most: int) -> float:
        """Seconds per image of `run`, which takes `few` to `most` images: the more the quicker it is."""
        few = count = min(few, most)
        first = _seconds(run, count)
        taken = [first]
        if first < LONGEST:
            count = min(max(int(LONGEST * count / _seconds(run, count)), count), most)
            taken = [_seconds(run, count)]
            taken += [_seconds(run, count) for _ in range(int(SECONDS / taken[0]))]
        pace = median_low(taken) / count  # of two the lower: nothing makes a run too quick
        self.first += max(0.0, first - pace * few)
        return pace


def _seconds(run: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start
