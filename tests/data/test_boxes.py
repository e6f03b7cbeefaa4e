import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from mirst.data import Box, box_around, read_dataset, with_boxes, write_phantoms
from mirst.errors import MirstError


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path)
    return path


def mask(top, left, bottom, right, shape=(40, 60), level=255):
    pixels = np.zeros(shape, np.uint8)
    pixels[top:bottom, left:right] = level
    return pixels


@pytest.mark.parametrize("level", [1, 128, 255])
def test_the_box_of_several_masks_goes_around_all_white_pixels(tmp_path, level):
    first = save(tmp_path / "a.png", mask(5, 10, 12, 20, level=level))
    second = save(tmp_path / "b.png", mask(20, 2, 30, 8, level=level))
    assert box_around([first, second]) == Box(2, 5, 20, 30, (60, 40))


def test_blank_masks_and_no_masks_give_no_box(tmp_path):
    assert box_around([save(tmp_path / "a.png", mask(0, 0, 0, 0))]) is None
    assert box_around([]) is None


def test_masks_of_two_sizes_get_a_sentence(tmp_path):
    masks = [save(tmp_path / "a.png", mask(1, 1, 5, 5)), save(tmp_path / "b.png", mask(1, 1, 5, 5, shape=(30, 30)))]
    with pytest.raises(MirstError, match=r"the masks a\.png, b\.png differ in size"):
        box_around(masks)


@pytest.fixture
def lesions(tmp_path):
    """Four phantoms of each class, two of them with a mask."""
    write_phantoms(tmp_path / "lesions", 4)
    for label in ("benign", "malignant"):
        shutil.rmtree(tmp_path / "lesions" / label / "masks")
        save(tmp_path / "lesions" / label / "phantom-001_mask.png", mask(20, 30, 60, 80, shape=(96, 128)))
    return tmp_path / "lesions"


def test_an_image_without_a_box_is_counted_named_and_left_out_or_kept(lesions):
    records, remarks = read_dataset(lesions), []
    kept = with_boxes(records, "drop", remarks.append)
    assert [record.name for record in kept] == ["benign/phantom-001.png", "malignant/phantom-001.png"]
    assert remarks == [
        "6 images have no box and are left out: benign/phantom-002.png, benign/phantom-003.png, benign/phantom-004.png "
        "and 3 more."
    ]
    everything = with_boxes(records, "whole", remarks.append)
    assert [record.box is None for record in everything] == [False, True, True, True] * 2
    assert "are shown whole" in remarks[1]


def test_a_box_that_the_data_give_counts_more_than_masks(lesions):
    record = replace(read_dataset(lesions)[0], box=Box(1, 2, 3, 4))
    assert with_boxes([record])[0].box == Box(1, 2, 3, 4)


def test_data_without_any_box_get_a_sentence(phantoms):
    with pytest.raises(MirstError, match=r"no image has a box, which the lesion view needs"):
        with_boxes(read_dataset(phantoms))


def test_boxes_of_real_sets_lie_around_the_published_lesions(real_data):
    busi = with_boxes(read_dataset(real_data / "busi", ["benign", "malignant"]))
    assert len(busi) == 647
    first = next(record for record in busi if record.name == "benign/benign (1).png")
    white = np.asarray(Image.open(first.path.with_name("benign (1)_mask.png"))) > 0
    inside = white[int(first.box.y0) : int(first.box.y1), int(first.box.x0) : int(first.box.x1)]
    assert inside.sum() == white.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()
    busbra = with_boxes(read_dataset(real_data / "busbra"))
    assert len(busbra) == 1492
    known = next(record for record in busbra if record.name == "Images/bus_0001-l.png")
    assert known.box == Box(91, 24, 91 + 103, 24 + 79, (274, 353))


def test_an_image_in_place_of_a_mask_gets_a_sentence(phantoms, tmp_path):
    image = next(iter(sorted((phantoms / "benign").iterdir())))
    with pytest.raises(MirstError, match=rf"{image.name} has the gray levels of an image and not those of a mask"):
        box_around([image])
    blurred = Image.fromarray(mask(5, 10, 25, 40)).resize((120, 80)).filter(ImageFilter.GaussianBlur(2))
    assert box_around([save(tmp_path / "blurred.png", blurred)]) is not None


def test_real_images_are_not_taken_for_masks_nor_masks_for_images(real_data):
    for record in read_dataset(real_data / "busi", ["benign", "malignant"])[::25]:
        assert box_around(record.masks) is not None
        with pytest.raises(MirstError, match="the gray levels of an image"):
            box_around([record.path])


def test_numbered_parts_of_a_lesion_all_count_and_traces_of_compression_do_not(tmp_path):
    parts = mask(5, 10, 12, 20, level=1)
    parts[20:30, 2:8] = 2
    assert box_around([save(tmp_path / "parts.png", parts)])[:4] == (2, 5, 20, 30)
    noisy = mask(5, 10, 12, 20) + np.random.default_rng(0).integers(0, 20, (40, 60)).astype(np.uint8)
    noisy[5:12, 10:20] = 250
    assert box_around([save(tmp_path / "noisy.png", noisy)])[:4] == (10, 5, 20, 12)
