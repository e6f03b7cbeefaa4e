"""The images and models of the explorer, shared by all visitors."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from mirst.app.explore import ExploredModel, Unseen, View, attack_image, certified_eps, prediction, smallest_eps
from mirst.app.training_images import Seen
from mirst.app.uploads import take
from mirst.data import Box, Record, box_of, decode, parse_box
from mirst.errors import MirstError


class Selection(NamedTuple):
    """The image that a visitor has selected."""

    image: Image.Image
    name: str
    truth: str | None
    """Its label, if known."""
    smallest: list[float | None]
    """The smallest eps that flips the prediction of each model; `None` if none was found."""
    certified: list[float | None]
    """The largest eps at which the prediction of each model is certified; `None` if the model has no bounds."""
    seen: list[Seen]
    """What is known of the image and the training of each model."""
    box: Box | None = None
    """Of the lesion, in pixels of the image."""
    box_source: str = ""
    """Where the box comes from; empty without a box."""


class Explorer:
    """The functions behind the controls of the page. All visitors share the models; computations run one at a time."""

    def __init__(self, models: Sequence[ExploredModel], records: Sequence[Record]) -> None:
        ranges = {model.card.value_range for model in models}
        if len(ranges) > 1:
            raise MirstError("the two models were trained on different value ranges; explore each alone")
        (self.value_range,) = ranges
        self.models = models
        self.takes_boxes = any(model.card.view == "lesion" for model in models)
        self.records = [replace(record, value_range=self.value_range) for record in records]
        self._lock = threading.Lock()

    def opening(self) -> Selection | None:
        """The first image that all models predict correctly, of the positive class if possible."""
        positive = self.models[0].card.positive
        for number in sorted(range(len(self.records)), key=lambda number: self.records[number].label != positive):
            record = self.records[number]
            image = decode(record.file, 3)
            box, _ = self._box(record, image)
            if all(prediction(model, image, box) == record.label for model in self.models):
                return self.pick(number)
        return self.pick(0) if self.records else None

    def pick(self, number: int) -> Selection:
        """An image of the gallery."""
        if number not in range(len(self.records)):
            raise MirstError(f"there is no image {number} in the gallery")
        record = self.records[number]
        image = decode(record.file, 3)
        return self._chosen(image, record.name, record.label, *self._box(record, image))

    def upload(self, sent: Path) -> Selection:
        """An uploaded image."""
        return self._chosen(take(sent, self.value_range), "Your image", None)

    def with_box(self, chosen: Selection, edges: Sequence[Any]) -> Selection:
        """The image with another box.

        Args:
            edges: left, top, right and bottom edge, in pixels of the image.

        Raises:
            MirstError: not four finite numbers in this order, or a box outside of the image.
        """
        if None in edges:
            raise MirstError("A box has four edges; enter all of them.")
        box = parse_box(",".join(map(str, edges))).within(*chosen.image.size)
        return self._chosen(chosen.image, chosen.name, chosen.truth, box, "You gave the box.", chosen.seen)

    def attack(self, chosen: Selection, attack: str, levels: float, steps: float) -> list[View | Unseen]:
        """The attack on every model that can classify the image."""
        with self._lock:
            return [
                attack_image(model, chosen.image, attack, levels / 255, int(steps), chosen.box)
                if model.sees(chosen.box)
                else Unseen(model)
                for model in self.models
            ]

    def _box(self, record: Record, image: Image.Image) -> tuple[Box | None, str]:
        """The box that the data set gives, and where it comes from."""
        box = box_of(record) if self.takes_boxes else None
        if box is None:
            return None, ""
        try:
            inside = box.within(*image.size)
        except MirstError as error:
            raise MirstError(f"{record.name}: {error}") from error
        if record.box is not None:
            return inside, "The box comes from the data set."
        return inside, f"The box goes around the mask {' and '.join(path.name for path in record.masks)}."

    def _chosen(
        self,
        image: Image.Image,
        name: str,
        truth: str | None,
        box: Box | None = None,
        source: str = "",
        seen: list[Seen] | None = None,
    ) -> Selection:
        with self._lock:
            seen = seen or [model.training.seen(image) for model in self.models]
            smallest = [smallest_eps(model, image, box) for model in self.models]
            certified = [certified_eps(model, image, box) for model in self.models]
        return Selection(image, name, truth, smallest, certified, seen, box, source)
