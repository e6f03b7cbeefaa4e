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
    """As `demo_spec`, for a smaller study of the same phantoms in the lesion view, with certificates.

    A crop of 32 pixels shows a lesion at least as large as a whole image of 64 does, at a quarter of the cost. The
    network is one whose interval bounds stay tight, and the ramp of eps is long, as training on bounds needs it.
    """
    view = ("data.view=lesion", "data.size=32")
    training = ("training.batch_size=8", "training.lr=0.002", "training.warmup=0.1", "training.ramp=0.5")
    certified = ("model.name=cnn_small", "defenses=[ce, rst, ibp]", "certify=[2/255, 5/255]")
    return _spec(folder, *view, *training, *certified)


def _spec(folder: Path, *overrides: str) -> StudySpec:
    phantoms = folder / "phantoms"
    if not (phantoms / "malignant" / "masks" / f"phantom-{PHANTOMS_PER_CLASS:03d}.png").exists():
        write_phantoms(phantoms, PHANTOMS_PER_CLASS)
    return load_spec(Path(__file__).with_name("demo.yaml"), overrides).with_data(phantoms)
