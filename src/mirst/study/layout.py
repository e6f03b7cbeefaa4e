"""The names of all files in a results folder."""

from dataclasses import dataclass
from pathlib import Path

SUITES = ("standard", "adaptive")
"""Suites of attacks that the models of a finished study can be attacked with."""


class _File:
    """A file of a `TrialFolder` or `StudyFolder` by its name: the attribute is its path."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, folder: "TrialFolder | StudyFolder", _: object) -> Path:
        return folder.path / self.name


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial.

    >>> TrialFolder(Path("results/trials/ce-fold0-seed0")).model.name
    'model.safetensors'
    """

    path: Path

    state = _File("state.pt")
    """Checkpoint of the training; it is removed when the trial ends."""
    model = _File("model.safetensors")
    history = _File("history.csv")
    """One row per epoch."""
    examples = _File("examples.npz")
    """Some test images, clean and attacked; only the first fold and seed have them."""
    outcomes = _File("outcomes.csv")
    """Outcome rows of the study's own attacks. This file is written last: it marks the end of the trial."""
    diverged = _File("diverged.txt")
    """How the training diverged, in a sentence. This file marks the end of such a trial."""
    killed = _File("killed.txt")
    """How the worker was killed, in a sentence. The next run tries the trial again."""
    distances = _File("distances.csv")
    """The smallest eps that misclassifies each test image."""
    distance_images = _File("distances.npz")
    """Images and perturbations that belong to `distances`."""
    corruptions = _File("corruptions.csv")
    certificates = _File("certificates.csv")
    """Bounds of the margin of each test image, and what attacks reached."""
    certificate_images = _File("certificates.npz")
    """Images that belong to `certificates`."""
    certificates_record = _File("certificates.json")
    """The radii and the method of the bounds. It is written last."""
    witnesses = _File("witnesses.safetensors")
    """What makes the model misclassify the images of its `witnesses.csv`."""
    witnesses_record = _File("witnesses.json")
    """The digests of the tables and the model that the witnesses belong to. It is written last."""

    def table(self, name: str) -> Path:
        return self.path / f"{name}.csv"

    def suite_record(self, suite: str) -> Path:
        """The radii of a suite and its checks for gradient masking. It is written last."""
        return self.path / f"{suite}.json"

    def divergence(self) -> str | None:
        """How the training diverged, if it did."""
        return _text(self.diverged)

    def killing(self) -> str | None:
        """How the worker was killed, if the trial was given up."""
        return _text(self.killed)

    def failure(self) -> str | None:
        """Why the trial has no outcome rows, if it ended without."""
        return self.divergence() or self.killing()

    def is_done(self) -> bool:
        """Whether the trial need not be run: it has its outcome rows, or its training diverged."""
        return self.outcomes.exists() or self.diverged.exists()


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study.

    >>> StudyFolder(Path("results")).trial("ce-fold0-seed0").path.as_posix()
    'results/trials/ce-fold0-seed0'
    """

    path: Path

    spec = _File("study.yaml")
    """The study with all defaults filled in."""
    run = _File("run.json")
    """Versions, data fingerprint, classes and the like."""
    outcomes = _File("outcomes.csv")
    summary = _File("summary.csv")
    failed = _File("failed.csv")
    """Trials whose training diverged or whose worker was killed."""
    old_failed = _File("diverged.csv")
    """The name of `failed` in folders of older versions."""
    records = _File("records.csv")
    """The attributes that divide the images into subgroups; missing without any, and in folders of older versions."""
    distances = _File("distances.csv")
    baselines = _File("baselines.csv")
    """Outcome rows of the baselines; only studies of lesions have them."""
    boxes = _File("boxes.csv")
    """Metrics with misplaced boxes; only studies of lesions have them."""
    boxes_baselines = _File("boxes-baselines.csv")
    """Those of the baselines; missing in folders of older versions."""
    corruptions = _File("corruptions.csv")
    certificates = _File("certificates.csv")
    witnesses = _File("witnesses.csv")
    """What `mirst dossier` found for every image that is misclassified under attack."""
    paper_table = _File("table.md")
    differences = _File("differences.md")
    report = _File("report.html")

    def table(self, name: str) -> Path:
        return self.path / f"{name}.csv"

    def checks(self, suite: str) -> Path:
        """Checks for gradient masking of a suite."""
        return self.table(f"{suite}-checks")

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / name)

    def external(self, name: str) -> "ExternalFolder":
        """Of the validation on the data set `name`."""
        return ExternalFolder(self.path / "external" / name)

    def external_sets(self) -> "list[ExternalFolder]":
        """Of every data set that the study was validated on and has rows of, by name."""
        found = sorted((self.path / "external").glob(f"*/{ExternalFolder(Path()).record.name}"))
        folders = [ExternalFolder(path.parent) for path in found]
        return [folder for folder in folders if folder.outcomes.exists()]


@dataclass(frozen=True)
class ExternalFolder(StudyFolder):
    """The files of the validation of a study on another data set: its trials have the rows of the study's models.

    >>> StudyFolder(Path("results")).external("clinic").ensembles().as_posix()
    'results/external/clinic/ensembles-outcomes.csv'
    """

    record = _File("external.json")
    """The data set, its fingerprint, and the images that were left out."""

    def ensembles(self, table: str = "outcomes") -> Path:
        """The table of the ensembles of the folds' models."""
        return self.table(f"ensembles-{table}")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
