"""Planted copies are found, different lesions are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from mirst.data import decode, make_phantom, read_dataset
from mirst.data.similarity import describe_all, find_pairs


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=50)
    return Image.open(buffer).convert("L")


def cropped(share, x, y):
    def crop(image):
        width, height = image.size
        left, top = x * (1 - share) * width, y * (1 - share) * height
        return image.crop((int(left), int(top), int(left + share * width), int(top + share * height)))

    return crop


CHANGES = {
    "same": lambda image: image,
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "stretched": lambda image: image.resize((image.width, int(image.height * 1.2))),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "compressed": jpeg,
    "cropped to 90 %": cropped(0.9, 0.2, 0.9),
    "cropped to 80 %": cropped(0.8, 0.6, 0.4),
    "cropped to 70 % and mirrored": lambda image: ImageOps.mirror(cropped(0.7, 0.5, 0.5)(image)),
}


def pairs_of(images):
    return {(pair.first, pair.second) for pair in find_pairs(images, describe_all(images))}


def test_different_phantoms_are_no_pairs():
    rng = np.random.default_rng(0)
    assert pairs_of([Image.fromarray(make_phantom(i % 2 == 0, rng)) for i in range(40)]) == set()


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_of_real_images_are_found(name, real_data):
    """Of 40 images of BUS-BRA, each of another case, every changed copy pairs with its original alone."""
    records = read_dataset(real_data / "busbra")
    one_per_case = list({record.group: record for record in records}.values())
    chosen = [one_per_case[i] for i in np.random.default_rng(0).permutation(len(one_per_case))[:40]]
    originals = [decode(record.file) for record in chosen]
    found = pairs_of(originals + [CHANGES[name](image) for image in originals])
    right = {(i, i + 40) for i in range(40)}
    assert found <= right
    assert len(found) >= 38


def test_nothing_and_blank_images_give_no_pairs():
    assert pairs_of([]) == set()
    assert pairs_of([Image.new("L", (50, 40), value) for value in (0, 0, 90)]) == set()
