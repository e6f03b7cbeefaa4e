"""The study that needs no data: phantoms, made on the spot."""

from pathlib import Path

from mirst.data import write_phantoms
from mirst.study.load import load_spec
from mirst.study.spec import StudySpec

PHANTOMS_PER_CLASS = 120


def demo_spec(folder: Path) -> StudySpec:
    """Write the phantoms below `folder` unless they are there, and return the study of them."""
    return _spec(folder)


def demo_lesion_spec(folder: Path) -> StudySpec:
    """As `demo_spec`, for a smaller study of the same phantoms in the lesion view.

    A crop of 32 pixels shows a lesion at least as large as a whole image of 64 does, at a quarter of the cost.
    """
    smaller = ("data.size=32", "training.epochs=10", "defenses=[ce, rst]", "folds.count=2")
    return _spec(folder, "data.view=lesion", *smaller)


def _spec(folder: Path, *overrides: str) -> StudySpec:
    phantoms = folder / "phantoms"
    if not (phantoms / "malignant" / "masks" / f"phantom-{PHANTOMS_PER_CLASS:03d}.png").exists():
        write_phantoms(phantoms, PHANTOMS_PER_CLASS)
    return load_spec(Path(__file__).with_name("demo.yaml"), overrides).with_data(phantoms)
