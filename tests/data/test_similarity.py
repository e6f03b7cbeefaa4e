"""Planted copies are found; different images of one pose, one border and one overlay are not copies."""

import io
from itertools import cycle

import numpy as np
import pytest
import scipy
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from mirst.data import candidates, decode, make_phantom, read_dataset
from mirst.data.levels import AuditRule, estimate_thresholds
from mirst.data.similarity import find_pairs, random_scores, thumbnail


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


def with_text(image):
    written = image.copy()
    draw = ImageDraw.Draw(written)
    for row in range(3):
        draw.text((image.width // 10, image.height // 8 * (2 * row + 1)), "PATIENT 12345  12.03.2019", fill=255)
    return written


CHANGES = {
    "same": lambda image: image,
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "stretched": lambda image: image.resize((image.width, int(image.height * 1.2))),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "compressed": jpeg,
    "text burned in": with_text,
    "cropped to 90 %": cropped(0.9, 0.2, 0.9),
    "cropped to 80 %": cropped(0.8, 0.6, 0.4),
    "cropped to 70 % and mirrored": lambda image: ImageOps.mirror(cropped(0.7, 0.5, 0.5)(image)),
}


def copies_of(images):
    thumbnails = np.array([thumbnail(image) for image in images])
    pairs = find_pairs(thumbnails)
    thresholds = estimate_thresholds(pairs, random_scores(thumbnails))
    return {(pair.first, pair.second) for pair in pairs if thresholds.level(pair) == "copies"}


def smooth(rng, sigma, side=128):
    field = scipy.ndimage.gaussian_filter(rng.standard_normal((side, side)), sigma)
    return field / field.std()


def one_pose(rng):
    """Images of one anatomy, with differences of their own and individual noise, like chest X-rays."""
    anatomy = 128 + 40 * smooth(rng, 8) + 15 * smooth(rng, 2)
    return [anatomy + 12 * smooth(rng, 6) + 8 * smooth(rng, 2) + rng.normal(0, 3, anatomy.shape) for _ in range(40)]


def black_borders(rng):
    """Smooth discs on black with one overlay, like fundus images."""
    y, x = np.mgrid[:128, :128]
    inside = np.hypot(y - 64, x - 64) < 55
    overlay = np.zeros((128, 128))
    overlay[4:12, 4:60] = 255 * (rng.uniform(size=(8, 56)) > 0.5)
    return [np.where(inside, 120 + 15 * smooth(rng, 6) + rng.normal(0, 2, inside.shape), overlay) for _ in range(40)]


def nearly_constant(rng):
    return [100 + 4 * smooth(rng, 10) + rng.normal(0, 1, (128, 128)) for _ in range(40)]


def pictures(arrays):
    return [Image.fromarray(array.clip(0, 255).astype(np.uint8)) for array in arrays]


def phantoms_of(rng):
    return [make_phantom(number % 2 == 0, rng) for number in range(40)]


PLANTED = {(0, 40), (1, 41), (2, 42)}


@pytest.mark.parametrize(
    ("make", "at_least"),
    [(phantoms_of, PLANTED), (one_pose, PLANTED), (black_borders, {(0, 40)}), (nearly_constant, {(0, 40), (1, 41)})],
)
def test_of_images_that_look_alike_only_planted_copies_are_copies(make, at_least):
    """Text outweighs the little that smooth images show, so such a copy may be missed."""
    rng = np.random.default_rng(0)
    images = pictures(make(rng))
    changed = [ImageOps.mirror(images[0]), cropped(0.85, 0.3, 0.8)(images[1]), with_text(images[2])]
    assert at_least <= copies_of([*images, *changed]) <= PLANTED


def test_a_set_full_of_copies_is_found():
    """Half of the neighbours of every image are its copies, which must not raise the threshold above them."""
    rng = np.random.default_rng(1)
    originals = pictures([make_phantom(True, rng) for _ in range(10)])
    images = [change(image) for image in originals for change in list(CHANGES.values())[:5]]
    found = copies_of(images)
    assert len(found) > 80
    assert all(first // 5 == second // 5 for first, second in found)


def test_thresholds_rise_with_what_random_pairs_share_and_obey_the_rule():
    low, high = (estimate_thresholds([], list(np.linspace(0, top, 50))) for top in (0.05, 0.4))
    assert low.fine < high.fine
    assert estimate_thresholds([], [0.9] * 50, AuditRule(fine=0.3)).fine == 0.3


@pytest.mark.parametrize("name", CHANGES)
def test_changed_copies_of_real_images_are_found(name, real_data):
    """Of 40 images of BUS-BRA, each of another case, every changed copy pairs with its original alone."""
    records = read_dataset(real_data / "busbra")
    one_per_case = list({record.group: record for record in records}.values())
    chosen = [one_per_case[i] for i in np.random.default_rng(0).permutation(len(one_per_case))[:40]]
    originals = [decode(record.file) for record in chosen]
    found = copies_of(originals + [CHANGES[name](image) for image in originals])
    right = {(i, i + 40) for i in range(40)}
    assert found <= right
    assert len(found) >= 38


def test_nothing_and_blank_images_give_no_pairs():
    assert copies_of([Image.new("L", (50, 40), value) for value in (0, 0, 90)]) == set()
    assert copies_of([]) == set()


def test_the_index_finds_the_candidates_that_an_exhaustive_search_finds(monkeypatch):
    """Of 200 images and their changed copies; the index compares a view with a quarter of the images."""
    rng = np.random.default_rng(3)
    originals = pictures([make_phantom(number % 2 == 0, rng) for number in range(200)])
    copies = [change(image) for image, change in zip(originals, cycle(CHANGES.values()), strict=False)]
    thumbnails = np.array([thumbnail(image) for image in originals + copies])

    def planted():
        pairs = {tuple(sorted((c.cropped, c.whole))) for c in candidates.find_candidates(thumbnails)}
        return {pair for pair in pairs if pair[1] - pair[0] == 200}

    exhaustive = planted()
    monkeypatch.setattr(candidates, "EXHAUSTIVE", 100)
    monkeypatch.setattr(candidates, "PROBED", 5)
    assert len(exhaustive) >= 190
    assert len(planted() & exhaustive) >= 0.97 * len(exhaustive)
