"""One trial: one defense, one fold, one seed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from mirst.data import Audit, CarriedImages, Fold, ImageSet, PreparedImages, Record, data_loader, split_validation
from mirst.errors import Diverged, MirstError
from mirst.evaluation import evaluate, named_rows
from mirst.files import atomic, write_csv, write_text
from mirst.nn import LoadedBackbone, ModelCard, build_model, load_backbone, reference_mode, save_model
from mirst.nn.device import default_device, device_of
from mirst.study.history import history_table
from mirst.study.model_card import write_card
from mirst.study.named_configs import NamedDefense
from mirst.study.spec import StudySpec
from mirst.training import Epoch, FitResult, fit
from mirst.training.state import forget_state

EVALUATION_BATCH = 64
KILLED, DIVERGED, OUTCOMES = "killed.txt", "diverged.txt", "outcomes.csv"
STATE = "state.pt"


@dataclass(frozen=True)
class Trial:
    entry: NamedDefense
    fold: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.entry.title}-fold{self.fold}-seed{self.seed}"

    def key(self) -> dict[str, str | bool | int]:
        """The columns that tell one trial's rows from another's."""
        return {
            "defense": self.entry.label,
            "drop_max": self.entry.drop_max,
            "fold": self.fold,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Prepared:
    """What all trials of a study share."""

    spec: StudySpec
    audit: Audit
    """Of all images, those among them that the study leaves out."""
    records: list[Record]
    images: PreparedImages | CarriedImages
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    positive: str
    folds: list[Fold]
    weights: LoadedBackbone | None
    """What every training starts from, unless from random weights."""

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

    def subset(self, indices: NDArray[np.int64], augment: bool = False) -> ImageSet:
        return ImageSet(self.images.pixels[indices], self.labels[indices], augment)


@contextmanager
def conditions(spec: StudySpec) -> Iterator[None]:
    """Torch on as many CPU threads as a trial has, so that numbers repeat bit for bit, and speed-ups on or off."""
    before = torch.get_num_threads()
    torch.set_num_threads(spec.training.threads)
    try:
        with reference_mode(not spec.training.fast):
            yield
    finally:
        torch.set_num_threads(before)


def all_trials(spec: StudySpec) -> list[Trial]:
    """Every defense on every fold with every seed, in the order of the tables."""
    return [
        Trial(entry, fold, seed) for entry in spec.defenses for fold in range(spec.folds.count) for seed in spec.seeds
    ]


def trial_folder(out: Path, trial: Trial) -> Path:
    """Where `out` keeps the files of a trial."""
    return out / "trials" / trial.name


def run_trial(trial: Trial, prepared: Prepared, folder: Path, on_epoch: Callable[[Epoch], None]) -> str | None:
    """Train, save and attack one model; `folder/outcomes.csv` appears last and marks the end.

    A trial that was cut off goes on from the last finished epoch in `folder/state.pt`. One whose
    training diverges ends with `folder/diverged.txt` instead.

    Returns:
        How the training diverged, if it did.
    """
    begin(folder)
    test = prepared.folds[trial.fold].test
    state = folder / STATE
    try:
        model, result = train_model(
            trial.entry, prepared, prepared.folds[trial.fold].train, trial.seed, state, on_epoch
        )
    except Diverged as error:
        if error.history:
            write_csv(folder / "history.csv", history_table(error.history))
        write_text(folder / DIVERGED, str(error))
        forget_state(state)
        return str(error)
    save_model(folder / "model.safetensors", model, model_card(trial.entry, prepared, result))
    history = history_table(result.history, result.epoch)
    write_csv(folder / "history.csv", history)
    rows = outcome_rows(model, prepared, test, result.threshold, trial.seed)
    if trial.fold == 0 and trial.seed == prepared.spec.seeds[0]:
        clean = rows[rows["attack"] == "none"]
        _save_examples(
            folder / "examples.npz", model, prepared, test, (clean["label"] == clean["prediction"]).to_numpy()
        )
    for place, (name, value) in enumerate(trial.key().items()):
        rows.insert(place, name, value)
    write_trial_card(trial, prepared, folder, history, rows)
    write_csv(folder / OUTCOMES, rows)
    forget_state(state)
    return None


def take_files(folder: Path) -> dict[str, bytes]:
    """The files of the ended trial in `folder`, for another machine; what marks the end comes last."""
    names = sorted((path.name for path in folder.iterdir()), key=lambda name: name in (OUTCOMES, DIVERGED))
    return {name: (folder / name).read_bytes() for name in names}


def put_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write what `take_files` took; the trial in `folder` has ended then."""
    for name, content in files.items():
        with atomic(folder / name) as partial:
            partial.write_bytes(content)
    forget_state(folder / STATE)


def write_trial_card(trial: Trial, prepared: Prepared, folder: Path, history: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Write `MODEL_CARD.md` with what `rows` say of the model in `folder`."""
    shares = training_shares(prepared, prepared.folds[trial.fold].train)
    split = f"the test images of fold {trial.fold} of {prepared.spec.folds.count}"
    write_card(
        folder / "model.safetensors", trial.name, trial.entry, prepared, shares, history, trial.seed, rows, split
    )


def begin(folder: Path) -> None:
    """Make `folder`, and remove what a killed worker left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in (folder / KILLED, *folder.glob(".*.partial")):
            left.unlink(missing_ok=True)
    except OSError as error:
        raise MirstError(f"cannot write {folder} ({error.strerror})") from error


def divergence(folder: Path) -> str | None:
    """How the training of the trial in `folder` diverged, if it did."""
    return _reason(folder / DIVERGED)


def killing(folder: Path) -> str | None:
    """How the worker of the trial in `folder` was killed, if the trial was given up; the next run tries it again."""
    return _reason(folder / KILLED)


def failure(folder: Path) -> str | None:
    """Why the trial in `folder` has no outcome rows, if it came to its end without."""
    return divergence(folder) or killing(folder)


def _reason(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def is_done(folder: Path) -> bool:
    """Whether the trial in `folder` need not be run: it has its rows, or its training diverged."""
    return (folder / OUTCOMES).exists() or divergence(folder) is not None


def train_model(
    entry: NamedDefense,
    prepared: Prepared,
    indices: NDArray[np.int64],
    seed: int,
    state: Path,
    on_epoch: Callable[[Epoch], None],
) -> tuple[nn.Module, FitResult]:
    """A model trained on the records at `indices`, some of them held out for validation."""
    settings = prepared.spec.training
    model, _ = initial_model(prepared.spec, len(prepared.classes), entry.drop_max, seed)
    model.to(default_device())
    own, held_out = training_shares(prepared, indices)
    result = fit(
        model,
        data_loader(prepared.subset(own, settings.augment), settings.batch_size, shuffle=True),
        entry.defense,
        val=data_loader(prepared.subset(held_out), EVALUATION_BATCH) if len(held_out) else None,
        settings=settings,
        positive=prepared.positive_index,
        seed=seed,
        checkpoint=state,
        on_epoch=on_epoch,
        extensions=settings.loop_extensions,
    )
    return model, result


def training_shares(prepared: Prepared, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the records at `indices`: those to train on, and those held out for validation, if any."""
    spec, fraction = prepared.spec, prepared.spec.training.val_fraction
    if fraction == 0:
        return indices, indices[:0]
    split = split_validation(prepared.records, indices, fraction, spec.folds.kind, spec.folds.seed)
    return split.train, split.test


def initial_model(spec: StudySpec, classes: int, drop_max: bool, seed: int) -> tuple[nn.Module, LoadedBackbone | None]:
    """The model that training starts from: random by `seed`, its backbone from a file where one is named.

    Raises:
        MirstError: a model or weights that `build_model` or `load_backbone` refuses.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_model(spec.model.name, spec.data.channels, classes, drop_max)
    if spec.model.weights == "random":
        return model, None
    return model, load_backbone(model, spec.model.weights, spec.model.name)


def model_card(entry: NamedDefense, prepared: Prepared, result: FitResult) -> ModelCard:
    return ModelCard(
        model=prepared.spec.model.name,
        drop_max=entry.drop_max,
        channels=prepared.spec.data.channels,
        size=prepared.spec.data.size,
        classes=prepared.classes,
        positive=prepared.positive,
        threshold=result.threshold,
        defense=repr(entry.defense),
        value_range=prepared.audit.found.value_range,
    )


def outcome_rows(
    model: nn.Module, prepared: Prepared, indices: NDArray[np.int64], threshold: float, seed: int
) -> pd.DataFrame:
    """`source, image, group, label, attack, eps, prediction, score, linf`, classes by name."""
    attacks = {entry.label: entry.attack for entry in prepared.spec.attacks}
    data = data_loader(prepared.subset(indices), EVALUATION_BATCH)
    rows = evaluate(model, data, attacks, positive=prepared.positive_index, threshold=threshold, seed=seed, check=False)
    return named_rows(rows, [prepared.records[i] for i in indices], prepared.classes)


def _save_examples(
    path: Path, model: nn.Module, prepared: Prepared, test: NDArray[np.int64], right: NDArray[np.bool_]
) -> None:
    """Two test images of the positive class and two others, clean and under each attack.

    They are the first that the clean model answers rightly, as far as there are any: an attack
    shows nothing on the others.
    """
    ordered = test[np.argsort(~right, kind="stable")]
    is_positive = prepared.labels[ordered] == prepared.positive_index
    chosen = np.concatenate([ordered[is_positive][:2], ordered[~is_positive][:2]])
    x, y = prepared.subset(chosen)[list(range(len(chosen)))]
    device = device_of(model)
    attacked = [entry.attack(model, x.to(device), y.to(device)).cpu() for entry in prepared.spec.attacks]
    with atomic(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            images=np.array([prepared.records[i].name for i in chosen]),
            attacks=np.array([entry.label for entry in prepared.spec.attacks]),
            clean=x.numpy(),
            attacked=torch.stack(attacked).numpy(),
        )
