"""One labelled image of a data set."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mirst.data.box import Box
from mirst.errors import MirstError

TRAIN, VAL, TEST = "train", "val", "test"
DEVICE = ("device", "scanner")
"""How data sets call the attribute that names the device, in lower case."""
PARTS = {TRAIN: TRAIN, "training": TRAIN, VAL: VAL, "valid": VAL, "validation": VAL, TEST: TEST, "testing": TEST}
"""How data sets call the parts of a split that is no cross-validation, in lower case."""


class ImageFile(NamedTuple):
    """Where an image is stored.

    >>> ImageFile(Path("loop.dcm"), item="3").item
    '3'
    """

    path: Path
    item: str | None = None
    """Which image of a file that contains several: the frame of a DICOM file, `train/17` of an npz."""
    value_range: tuple[float, float] | None = None
    """The values shown as black and white, where the file states none."""


Stamp = tuple[int, int] | None


def file_stamp(path: Path) -> Stamp:
    """A value that changes when the file does, as a key for caches of its content; `None` if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@dataclass(frozen=True)
class Record:
    """One labelled image.

    >>> record = Record(Path("benign/1.png"), "benign", group="patient 7", source="clinic", name="benign/1.png")
    >>> record.file.path.name
    '1.png'
    """

    path: Path
    label: str
    """Name of the class."""
    group: str | None
    """Images of one group, such as a patient, are never split between training and test; `None`: unknown."""
    source: str
    """The data set that the image comes from."""
    name: str = ""
    """Its name in all outputs, unique within its source."""
    item: str | None = None
    """Which image of a file that contains several."""
    value_range: tuple[float, float] | None = None
    """The values shown as black and white, where the file states none."""
    split: str | None = None
    """Its part of a split that the data set gives: train, val or test, or the name of a fold."""
    box: Box | None = None
    """The box of the lesion, where the data set gives one."""
    masks: tuple[Path, ...] = ()
    """The masks of the lesions in the image, for their boxes alone."""
    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What else the data set says of the image, by the name of its column: the site, say, or an age band."""

    @property
    def file(self) -> ImageFile:
        return ImageFile(self.path, self.item, self.value_range)

    @property
    def scanner(self) -> str | None:
        """The device, if the data set specifies it."""
        return next((value for name, value in self.attributes.items() if name.lower() in DEVICE), None)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts `benign (2).png` before `benign (10).png`.

    >>> sorted(["10", "9", "a"], key=natural)
    ['9', '10', 'a']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def positive_class(classes: Sequence[str], named: str | None = None) -> str | None:
    """The class that sensitivity counts: the one `named`, else "malignant" in any letter case.

    More than two classes need none: `None` where none is named and none is called malignant.

    Raises:
        MirstError: it is not among `classes`.

    >>> positive_class(("RBC", "WBC", "Platelets")) is None
    True
    """
    positive = named or next((name for name in classes if name.lower() == "malignant"), "malignant")
    if positive not in classes:
        known = ", ".join(classes)
        if named:
            raise MirstError(f"data.positive: {named} is not a class; the classes are {known}")
        if len(classes) > 2:
            return None
        raise MirstError(f"data.positive is not set; set it to the class that sensitivity counts, one of {known}")
    return positive


def scored_index(classes: Sequence[str], positive: str | None) -> int:
    """The index of the class whose log-odds are the score of outcome rows: the positive one, the first without one.

    >>> scored_index(("benign", "malignant"), "malignant"), scored_index(("0", "1", "2"), None)
    (1, 0)
    """
    return 0 if positive is None else classes.index(positive)
