from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mirst.box_code import box_features
from mirst.data import Box, ImageSet, LesionCrop, Lesions
from mirst.errors import MirstError
from mirst.evaluation.misplaced_boxes import PLACEMENT, REACHES, WORST, evaluate_boxes
from mirst.metrics import METRICS

CLASSES = ("dark", "bright")


class Mean(nn.Module):
    """The brighter the crop, the more `bright`."""

    def forward(self, x):
        z = 20 * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([-z, z], 1) / 2


def scene(box):
    """A bright image whose lower half is dark, seen around a box."""
    image = Image.new("L", (80, 80), 255)
    image.paste(0, (0, 40, 80, 80))
    return LesionCrop.of(image, box, 16, 0.0)


BOXES = [Box(30, 28, 50, 46), Box(30, 33, 50, 53), Box(30, 20, 50, 35), Box(30, 45, 50, 60)]
LABELS = np.array([1, 0, 1, 0])


@pytest.fixture
def images():
    crops = [scene(box) for box in BOXES]
    surroundings = np.stack([crop.surroundings for crop in crops])
    return ImageSet(surroundings, LABELS, lesions=Lesions(16, 0.0, np.array([crop.features for crop in crops])))


def by_hand(box, shift_x, shift_y, scale_x, scale_y):
    """The score of the crop that is cut from the image itself."""
    x, y = (box.x0 + box.x1) / 2 + shift_x * box.width, (box.y0 + box.y1) / 2 + shift_y * box.height
    half = box.width * (1 + scale_x) / 2, box.height * (1 + scale_y) / 2
    crop = scene(Box(x - half[0], y - half[1], x + half[0], y + half[1]))
    middle = Lesions(16, 0.0, np.array([crop.features])).crops(crop.surroundings[None])
    return 20 * (middle.mean() / 255 - 0.5)


def test_every_placement_is_that_of_a_box_drawn_by_hand(images):
    table = evaluate_boxes(Mean(), images, CLASSES, "bright")
    moved = table[table["placement"] == "moved"]
    assert len(moved) == 81 * len(REACHES)
    assert len(moved.drop_duplicates(["reach", *PLACEMENT])) == len(moved)
    for row in moved.sample(25, random_state=0).itertuples():
        scores = np.array([by_hand(box, row.shift_x, row.shift_y, row.scale_x, row.scale_y) for box in BOXES])
        if np.abs(scores).min() > 0.3:  # else the two ways of resampling may differ in the prediction
            assert row.accuracy == np.mean((scores > 0) == LABELS)


def test_the_worst_counts_every_image_that_any_placement_makes_misclassified(images):
    table = evaluate_boxes(Mean(), images, CLASSES, "bright")
    worst = table[table["placement"] == WORST].set_index("reach")["accuracy"]
    assert worst.index.tolist() == list(REACHES)
    assert worst.is_monotonic_decreasing
    grid = [(dx, dy, sx, sy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) for sx in (-1, 0, 1) for sy in (-1, 0, 1)]
    scores = np.array([[by_hand(box, *(0.2 * np.array(step))) for box in BOXES] for step in grid])
    right = np.where(LABELS == 1, scores.min(0) > 0, scores.max(0) < 0)
    assert worst[0.2] == right.mean() < 1
    lowest = table[table["placement"] == "moved"].groupby("reach")["accuracy"].min()
    assert (worst <= lowest).all()


class Seen(Mean):
    """Notes what a model with the box as an input is given."""

    def __init__(self):
        super().__init__()
        self.crops, self.features = [], []

    def forward(self, x):
        self.crops.append(x[:, :1].mean((1, 2, 3)))
        self.features.append(box_features(x[:, 1:])[0])
        return super().forward(x[:, :1])


def test_a_model_with_the_box_as_an_input_gets_the_moved_crop_and_the_numbers_of_the_moved_box(images):
    model = Seen()
    table = evaluate_boxes(model, replace(images, lesions=replace(images.lesions, as_channel=True)), CLASSES, "bright")
    placed = table[table["placement"] != WORST]
    assert len(placed) == len(model.features) == 1 + 81 * len(REACHES)
    wanted = [
        [
            (np.log(box.height * (1 + row.scale_y) / (box.width * (1 + row.scale_x))), np.log(area / 80**2))
            for box in BOXES
            for area in [box.width * (1 + row.scale_x) * box.height * (1 + row.scale_y)]
        ]
        for row in placed.itertuples()
    ]
    assert np.allclose(torch.stack(model.features), wanted, atol=2e-4)  # half a step of the code
    assert np.ptp(wanted, axis=0).min() > 0.5  # log 1.2 / 0.8, twice
    for number in range(0, len(placed), 7):
        row = placed.iloc[number]
        scores = [by_hand(box, *row[[*PLACEMENT]]) for box in BOXES]
        assert np.allclose(20 * (model.crops[number] - 0.5), scores, atol=0.6)


def test_the_true_boxes_come_first_and_nothing_is_missing(images):
    table = evaluate_boxes(Mean(), images, CLASSES, "bright")
    assert table.columns.tolist() == ["reach", "placement", *PLACEMENT, *METRICS]
    assert table.iloc[0, :6].tolist() == [0.0, "true", 0, 0, 0, 0]
    assert table[[*METRICS]].notna().all(axis=None)


def test_logits_that_are_not_finite_are_misclassified(images):
    class Broken(Mean):
        def forward(self, x):
            return super().forward(x).masked_fill(x.mean((1, 2, 3), keepdim=True)[:, :, 0, 0] < 0.3, torch.nan)

    table = evaluate_boxes(Broken(), images, CLASSES, "bright")
    assert table["accuracy"].iloc[0] <= 0.75


def test_whole_images_have_no_boxes_to_misplace(images):
    whole = ImageSet(images.images, images.labels)
    with pytest.raises(MirstError, match=r"takes whole images, so there is no box to misplace"):
        evaluate_boxes(Mean(), whole, CLASSES, "bright")
