"""Whether a picture is one of the images that a model was trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image

from mirst.data import Lookup
from mirst.errors import MirstError
from mirst.study.image_use import StudyImages, Use, images_of, trial_of
from mirst.study.layout import StudyFolder


class Seen(NamedTuple):
    """What is known of a picture and the training of a model."""

    kind: Literal["trained", "validated", "new", "unknown"]
    sentence: str


TRAINED = Seen(
    "trained",
    "This model was trained on this image or a copy of it: its prediction says nothing about new images.",
)
VALIDATED = Seen(
    "validated",
    "This model was not trained on this image, but the image or a copy of it helped to choose settings of the training "
    "(validation): its prediction may be better than on new images.",
)
TEST = Seen("new", "This image was not used to train this model: it is one of the test images of its study.")
OTHER = Seen(
    "new",
    "This image was not used to train this model: no copy of it was found among the images of its study. Other images "
    "of the same patient may be among them.",
)
PREPARED = Seen(
    "unknown",
    "It is unknown whether this model was trained on this image: its study used a prepared folder, whose images cannot "
    "be compared with others.",
)
PRETRAINED = " The training began with weights of other images; whether this image is among those is unknown."


@dataclass(frozen=True)
class UnknownTraining:
    """The training of a model whose images are not at hand."""

    reason: str

    def seen(self, _: Image.Image) -> Seen:
        return Seen("unknown", f"It is unknown whether this model was trained on this image: {self.reason}.")


@dataclass(frozen=True)
class KnownTraining:
    """The images of the study of a model, and for what the model used them."""

    images: Lookup
    uses: Sequence[Use | None]
    pretrained: bool = False
    prepared_folder: bool = False

    def seen(self, image: Image.Image) -> Seen:
        """What is known of the picture, in the pixels of its file."""
        uses = {self.uses[number] for number in self.images.copies_of(image)}
        if "training" in uses:
            return TRAINED
        if "validation" in uses:
            return VALIDATED
        if "test" not in uses and self.prepared_folder:
            return PREPARED
        known = TEST if "test" in uses else OTHER
        return known._replace(sentence=known.sentence + PRETRAINED) if self.pretrained else known


Training = UnknownTraining | KnownTraining
NO_STUDY = UnknownTraining("the model is not in the results folder of a study")


def trainings_of(checkpoints: Sequence[Path], data: Path | None, tell: Callable[[str], object]) -> list[Training]:
    """What is known of the training images of each checkpoint. The images of a study are read once.

    Args:
        data: where the images of the studies may be now.
        tell: gets a message before images are read, and why they are not found.
    """
    read: dict[StudyFolder, tuple[StudyImages, Lookup]] = {}
    found: list[Training] = []
    for checkpoint in checkpoints:
        try:
            found.append(_training_of(checkpoint, data, read, tell))
        except MirstError as error:
            tell(f"Training images: {error}")
            found.append(UnknownTraining("the images of its study cannot be read here (the command line says why)"))
    return found


def _training_of(
    checkpoint: Path,
    data: Path | None,
    read: dict[StudyFolder, tuple[StudyImages, Lookup]],
    tell: Callable[[str], object],
) -> Training:
    place = trial_of(checkpoint)
    if place is None:
        return NO_STUDY
    study, trial = place
    if study not in read:
        tell(f"Reading the images of {study.path}, to know which of them each model was trained on ...")
        images = images_of(study, data)
        files = [record.file for record in images.records]
        read[study] = images, Lookup(files, images.prepared.audit.thresholds.fine)
    images, lookup = read[study]
    prepared_folder = any(record.path.suffix == ".npy" for record in images.records)
    return KnownTraining(lookup, images.uses(trial), images.pretrained, prepared_folder)
