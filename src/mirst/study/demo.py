"""The study that needs no data: phantoms, made on the spot."""

from pathlib import Path

from mirst.data import write_phantoms
from mirst.study.load import load_spec
from mirst.study.spec import StudySpec

PHANTOMS_PER_CLASS = 120


def demo_spec(folder: Path) -> StudySpec:
    """Write the phantoms below `folder` unless they are there, and return the study of them."""
    phantoms = folder / "phantoms"
    if not (phantoms / "malignant" / f"phantom-{PHANTOMS_PER_CLASS:03d}.png").exists():
        write_phantoms(phantoms, PHANTOMS_PER_CLASS)
    return load_spec(Path(__file__).with_name("demo.yaml")).with_data(phantoms)
