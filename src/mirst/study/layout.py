"""The names of all files in a results folder."""

from dataclasses import dataclass
from pathlib import Path

SUITES = ("standard", "adaptive")
"""Suites of attacks that the models of a finished study can be attacked with."""


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial.

    >>> TrialFolder(Path("results/trials/ce-fold0-seed0")).model.name
    'model.safetensors'
    """

    path: Path

    @property
    def state(self) -> Path:
        """Checkpoint of the training; it is removed when the trial ends."""
        return self.path / "state.pt"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def history(self) -> Path:
        """One row per epoch."""
        return self.path / "history.csv"

    @property
    def examples(self) -> Path:
        """Some test images, clean and attacked; only the first fold and seed have them."""
        return self.path / "examples.npz"

    @property
    def outcomes(self) -> Path:
        """Outcome rows of the study's own attacks. This file is written last: it marks the end of the trial."""
        return self.table("outcomes")

    @property
    def diverged(self) -> Path:
        """How the training diverged, in a sentence. This file marks the end of such a trial."""
        return self.path / "diverged.txt"

    @property
    def killed(self) -> Path:
        """How the worker was killed, in a sentence. The next run tries the trial again."""
        return self.path / "killed.txt"

    @property
    def distances(self) -> Path:
        """The smallest eps that misclassifies each test image."""
        return self.table("distances")

    @property
    def distance_images(self) -> Path:
        """Images and perturbations that belong to `distances`."""
        return self.path / "distances.npz"

    @property
    def corruptions(self) -> Path:
        return self.table("corruptions")

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

    @property
    def spec(self) -> Path:
        """The study with all defaults filled in."""
        return self.path / "study.yaml"

    @property
    def run(self) -> Path:
        """Versions, data fingerprint, classes and the like."""
        return self.path / "run.json"

    @property
    def outcomes(self) -> Path:
        return self.table("outcomes")

    @property
    def summary(self) -> Path:
        return self.table("summary")

    @property
    def failed(self) -> Path:
        """Trials whose training diverged or whose worker was killed."""
        return self.table("failed")

    @property
    def old_failed(self) -> Path:
        """The name of `failed` in folders of older versions."""
        return self.table("diverged")

    @property
    def distances(self) -> Path:
        return self.table("distances")

    @property
    def corruptions(self) -> Path:
        return self.table("corruptions")

    @property
    def baselines(self) -> Path:
        """Outcome rows of the baselines; only studies of lesions have them."""
        return self.table("baselines")

    @property
    def paper_table(self) -> Path:
        return self.path / "table.md"

    @property
    def differences(self) -> Path:
        return self.path / "differences.md"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def table(self, name: str) -> Path:
        return self.path / f"{name}.csv"

    def checks(self, suite: str) -> Path:
        """Checks for gradient masking of a suite."""
        return self.table(f"{suite}-checks")

    def trial(self, name: str) -> TrialFolder:
        return TrialFolder(self.path / "trials" / name)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
