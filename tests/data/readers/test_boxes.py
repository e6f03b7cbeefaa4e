"""The boxes and masks that each reader finds."""

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from mirst.data import Box, LesionCrop, lesion_crop, read_dataset, with_boxes
from mirst.errors import MirstError
from tests.data.helpers import RAMP, save, write_csv, write_dicom


def save_mask(path, left, top, right, bottom, size=(12, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L", size)
    image.paste(255, (left, top, right, bottom))
    image.save(path)


def boxes(records):
    return {record.name: record.box and record.box[:4] for record in records}


def test_busi_has_a_box_around_all_masks_of_an_image(tmp_path):
    for label in ("benign", "malignant"):
        save(tmp_path / label / "a (1).png")
        save_mask(tmp_path / label / "a (1)_mask.png", 2, 1, 5, 4)
    save_mask(tmp_path / "benign" / "a (1)_mask_1.png", 7, 3, 11, 8)
    found = boxes(with_boxes(read_dataset(tmp_path)))
    assert found == {"benign/a (1).png": (2, 1, 11, 8), "malignant/a (1).png": (2, 1, 5, 4)}


@pytest.fixture
def busbra(tmp_path):
    for name in ("bus_0001-l", "bus_0002-l", "bus_0003-l"):
        save(tmp_path / "Images" / f"{name}.png")
    save_mask(tmp_path / "Masks" / "mask_0003-l.png", 1, 2, 3, 4)
    rows = [
        ("ID", "Case", "Pathology", "Width", "Height", "BBOX"),
        ("bus_0001-l", 1, "malignant", 120, 90, "[20,10,50,40]"),
        ("bus_0002-l", 2, "benign", 120, 90, ""),
        ("bus_0003-l", 3, "benign", 120, 90, ""),
    ]
    write_csv(tmp_path / "bus_data.csv", rows)
    return tmp_path, rows


def test_busbra_has_boxes_in_pixels_of_the_original_image_or_masks(busbra):
    records = with_boxes(read_dataset(busbra[0]), "whole")
    assert boxes(records) == {
        "Images/bus_0001-l.png": (20, 10, 70, 50),
        "Images/bus_0002-l.png": None,
        "Images/bus_0003-l.png": (1, 2, 3, 4),
    }
    malignant = next(record for record in records if record.label == "malignant")
    assert malignant.box.within(12, 9) == Box(2, 1, 7, 5)


@pytest.mark.parametrize("cell", ["[1,2,3]", "nonsense", "[1,2,3,x]"])
def test_a_bbox_that_is_none_names_table_and_row(busbra, cell):
    folder, rows = busbra
    write_csv(folder / "bus_data.csv", [*rows[:1], (*rows[1][:-1], cell), *rows[2:]])
    with pytest.raises(MirstError, match=r"bus_data\.csv: the BBOX of bus_0001-l is '.*'; write \[x,y,width,height\]"):
        read_dataset(folder)


def test_breast_has_boxes_around_its_tumour_masks(tmp_path):
    rows = [("CaseID", "Image_filename", "Mask_tumor_filename", "Classification")]
    rows += [(1, "a.png", "a_tumor1.png&a_tumor2.png", "benign"), (2, "b.png", "b_tumor.png", "malignant")]
    for name in ("a.png", "b.png"):
        save(tmp_path / "images" / name)
    save_mask(tmp_path / "images" / "a_tumor1.png", 1, 1, 3, 3)
    save_mask(tmp_path / "images" / "a_tumor2.png", 5, 5, 8, 8)
    save_mask(tmp_path / "images" / "b_tumor.png", 2, 2, 9, 6)
    write_csv(tmp_path / "clinical.csv", rows)
    assert boxes(with_boxes(read_dataset(tmp_path))) == {"images/a.png": (1, 1, 8, 8), "images/b.png": (2, 2, 9, 6)}


def manifest(tmp_path, *rows, header=("path", "label", "x0", "y0", "x1", "y1", "mask")):
    for row in rows:
        if not (tmp_path / row[0]).exists():
            save(tmp_path / row[0])
    return write_csv(tmp_path / "list.csv", [header, *rows])


def test_a_manifest_gives_boxes_or_masks(tmp_path):
    save_mask(tmp_path / "outlines" / "two.png", 3, 3, 6, 7)
    table = manifest(
        tmp_path, ("one.png", "a", 1, 2.5, 10, 8, ""), ("two.png", "b", "", "", "", "", "outlines/two.png")
    )
    assert boxes(with_boxes(read_dataset(table))) == {"one.png": (1, 2.5, 10, 8), "two.png": (3, 3, 6, 7)}


def test_a_manifest_lists_several_masks_of_one_image(tmp_path):
    for name, edges in (("one", (1, 1, 3, 3)), ("two", (5, 5, 8, 8)), ("odd;name", (2, 2, 4, 4))):
        save_mask(tmp_path / "outlines" / f"{name}.png", *edges)
    both, odd = "outlines/one.png; outlines/two.png", "outlines/odd;name.png"
    table = manifest(tmp_path, ("a.png", "a", "", "", "", "", both), ("b.png", "b", "", "", "", "", odd))
    assert boxes(with_boxes(read_dataset(table))) == {"a.png": (1, 1, 8, 8), "b.png": (2, 2, 4, 4)}


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ((5, 2, 1, 8, ""), r"line 2 of .*list\.csv: '5,2,1,8' is not a box"),
        ((1, 2, "", 8, ""), r"line 2 of .*list\.csv: '1,2,,8' is not a box"),
        (("a", 2, 3, 8, ""), "is not a box"),
        (("", "", "", "", "missing.png"), r"line 2 of .*list\.csv: the mask .*missing\.png is not a file"),
        (("", "", "", "", "one.png;missing.png"), r"line 2 of .*list\.csv: the mask .*missing\.png is not a file"),
    ],
)
def test_a_bad_box_in_a_manifest_names_its_line(tmp_path, cells, words):
    table = manifest(tmp_path, ("one.png", "a", *cells), ("two.png", "b", 1, 1, 2, 2, ""))
    with pytest.raises(MirstError, match=words):
        read_dataset(table)


def test_a_box_outside_of_its_image_names_it_when_it_is_cropped(tmp_path):
    table = manifest(tmp_path, ("one.png", "a", 50, 50, 60, 60, ""), ("two.png", "b", 1, 1, 2, 2, ""))
    record = with_boxes(read_dataset(table))[0]
    with pytest.raises(MirstError, match=r"one\.png: the box 50,50,60,60 covers less than a pixel of the 12 x 9 image"):
        lesion_crop(record.file, record.box, 16, 0.3)


@pytest.fixture
def tissue():
    """A tissue region of 8 x 6 pixels."""
    region = Dataset()
    region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 9, 6
    return region


def test_a_box_of_a_dicom_file_counts_from_the_corner_of_its_frame(tmp_path, tissue):
    write_dicom(tmp_path / "one.dcm", RAMP, SequenceOfUltrasoundRegions=[tissue])
    write_dicom(tmp_path / "two.dcm", RAMP)
    table = manifest(tmp_path, ("one.dcm", "a", 4, 3, 8, 7, ""), ("two.dcm", "b", 4, 3, 8, 7, ""))
    one, two = with_boxes(read_dataset(table))
    assert (one.box[:4], two.box[:4]) == ((2, 2, 6, 6), (4, 3, 8, 7))
    wanted = LesionCrop.of(Image.fromarray(RAMP[1:7, 2:10]), Box(2, 2, 6, 6), 16, 0.3)
    assert np.array_equal(lesion_crop(one.file, one.box, 16, 0.3).surroundings, wanted.surroundings)


@pytest.mark.parametrize(
    ("size", "place", "wanted"),
    [
        ((12, 8), (4, 3, 8, 7), (2, 2, 6, 6)),
        ((24, 16), (8, 6, 16, 14), (2, 2, 6, 6)),
        ((8, 6), (2, 2, 6, 6), (2, 2, 6, 6)),
    ],
)
def test_a_mask_of_a_dicom_file_shows_its_whole_frame_or_its_tissue_region(tmp_path, tissue, size, place, wanted):
    write_dicom(tmp_path / "a" / "one.dcm", RAMP, SequenceOfUltrasoundRegions=[tissue])
    write_dicom(tmp_path / "b" / "two.dcm", RAMP)
    left, top, right, bottom = place
    mask = np.zeros(size[::-1], np.uint8)
    mask[top:bottom, left:right] = 255
    Image.fromarray(mask).save(tmp_path / "a" / "one_mask.png")
    record = with_boxes(read_dataset(tmp_path))[0]
    assert record.box.within(8, 6)[:4] == wanted


def test_all_frames_of_a_dicom_file_have_the_box_of_the_file(tmp_path, tissue):
    write_dicom(tmp_path / "loop.dcm", np.stack([RAMP, RAMP[::-1]]), SequenceOfUltrasoundRegions=[tissue])
    write_dicom(tmp_path / "two.dcm", RAMP)
    table = manifest(tmp_path, ("loop.dcm", "a", 4, 3, 8, 7, ""), ("two.dcm", "b", 4, 3, 8, 7, ""))
    found = with_boxes(read_dataset(table))
    assert [(record.name, record.box[:4]) for record in found] == [
        ("loop.dcm#0", (2, 2, 6, 6)),
        ("loop.dcm#1", (2, 2, 6, 6)),
        ("two.dcm", (4, 3, 8, 7)),
    ]


@pytest.mark.parametrize("place", [(0, 0, 2, 8), (10, 1, 12, 7), (2, 7, 9, 8)])
def test_a_box_outside_of_the_tissue_region_gets_a_sentence(tmp_path, tissue, place):
    write_dicom(tmp_path / "one.dcm", RAMP, SequenceOfUltrasoundRegions=[tissue])
    write_dicom(tmp_path / "two.dcm", RAMP)
    table = manifest(tmp_path, ("one.dcm", "a", *place, ""), ("two.dcm", "b", 4, 3, 8, 7, ""))
    box = ",".join(map(str, place))
    with pytest.raises(MirstError, match=rf"one\.dcm: the box {box} lies outside of the tissue region .*, 2,1,10,7"):
        with_boxes(read_dataset(table))


def test_a_mask_of_another_shape_than_its_dicom_file_names_it(tmp_path):
    write_dicom(tmp_path / "a" / "one.dcm", RAMP)
    write_dicom(tmp_path / "b" / "two.dcm", RAMP)
    save_mask(tmp_path / "a" / "one_mask.png", 3, 3, 6, 7, size=(30, 8))
    with pytest.raises(MirstError, match=r"one\.dcm: the box or mask belongs to an image of 30 x 8 pixels"):
        with_boxes(read_dataset(tmp_path))
