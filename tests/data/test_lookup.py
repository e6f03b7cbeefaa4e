"""Copies of a new image among those of a data set."""

import numpy as np
import pytest
from PIL import Image

from mirst.data import Lookup, decode, make_phantom, read_dataset


@pytest.fixture(scope="module")
def files(phantoms):
    return [record.file for record in read_dataset(phantoms)]


@pytest.fixture(scope="module")
def lookup(files):
    return Lookup(files, fine=0.5)


def _changes(image):
    width, height = image.size
    yield image
    yield image.resize((3 * width // 2, 3 * height // 2))
    yield image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    yield image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    yield image.crop((width // 12, height // 12, width, height))
    yield image.point(lambda level: 20 + level * 0.8)


@pytest.mark.parametrize("number", [0, 7, 23])
def test_a_copy_is_found_whatever_was_done_to_it(lookup, files, number):
    found = [lookup.copies_of(copy) for copy in _changes(decode(files[number]))]
    assert found == [[number]] * 6


def test_a_crop_among_the_images_is_found_for_the_whole(files, tmp_path):
    whole = decode(files[3])
    whole.crop((0, 8, 118, 96)).save(tmp_path / "crop.png")
    images = [*files[4:], files[0]._replace(path=tmp_path / "crop.png")]
    assert Lookup(images, fine=0.5).copies_of(whole) == [len(images) - 1]


def test_other_images_are_no_copies_and_equal_blank_ones_are(lookup, tmp_path, files):
    assert lookup.copies_of(Image.fromarray(make_phantom(True, np.random.default_rng(77)))) == []
    blank = Image.new("L", (64, 64), 9)
    assert lookup.copies_of(blank) == []
    blank.save(tmp_path / "blank.png")
    with_blank = Lookup([*files, files[0]._replace(path=tmp_path / "blank.png")], fine=0.5)
    assert with_blank.copies_of(blank) == [len(files)]
