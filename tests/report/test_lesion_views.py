"""The figure of the lesion view, and the paper's figures of models that take crops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset

from mirst.data import Box, box_of, decode, read_dataset
from mirst.errors import MirstError
from mirst.nn import build_model, save_model
from mirst.report import lesion_figure, read_figure_input
from tests.data.helpers import write_dicom
from tests.helpers import CARD

IMAGE = "malignant/phantom-001.png"


def test_the_figure_shows_the_image_with_its_box_and_the_crop(masked_phantoms):
    record = next(record for record in read_dataset(masked_phantoms) if record.name == IMAGE)
    box = box_of(record)
    whole, crop = lesion_figure(record.path).axes
    assert np.array_equal(np.round(whole.images[0].get_array() * 255), np.asarray(decode(record.file)))
    (edges,) = whole.patches
    assert (edges.get_x() + 0.5, edges.get_y() + 0.5) == (box.x0, box.y0)
    assert (edges.get_width(), edges.get_height()) == (box.width, box.height)
    assert crop.images[0].get_array().shape == (256, 256)


def test_the_crop_is_the_square_around_the_box(phantoms):
    """Its longer side is 40 pixels, with 12 more on each side."""
    _, crop = lesion_figure(phantoms / IMAGE, Box(40, 30, 80, 60)).axes
    with Image.open(phantoms / IMAGE) as image:
        square = image.crop((28, 13, 92, 77)).resize((256, 256), Image.Resampling.BILINEAR)
    shown = np.round(crop.images[0].get_array() * 255)
    assert np.abs(shown - np.asarray(square))[8:-8, 8:-8].max() <= 1


def test_a_box_may_be_given_and_must_be_known(phantoms):
    whole, _ = lesion_figure(phantoms / IMAGE, Box(10, 20, 50, 60)).axes
    assert whole.patches[0].get_width() == 40
    with pytest.raises(MirstError, match=r"there is no box for .*phantom-001\.png; give --box"):
        lesion_figure(phantoms / IMAGE)


def test_the_box_of_a_dicom_file_is_in_pixels_of_its_whole_frame(tmp_path):
    region = Dataset()
    region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 20, 10
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 79, 59
    write_dicom(tmp_path / "one.dcm", np.full((70, 90), 9, np.uint8), SequenceOfUltrasoundRegions=[region])
    whole, _ = lesion_figure(tmp_path / "one.dcm", Box(30, 30, 50, 45)).axes
    (edges,) = whole.patches
    assert whole.images[0].get_array().shape == (50, 60)
    assert (edges.get_x() + 0.5, edges.get_y() + 0.5, edges.get_width()) == (10, 20, 20)


def test_figures_of_a_lesion_model_take_the_crop(masked_phantoms, phantoms, tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    save_model(checkpoint, build_model("resnet_tiny", 1, 2, drop_max=True), replace(CARD, view="lesion"))
    by_mask = read_figure_input(checkpoint, masked_phantoms / IMAGE)
    other = read_figure_input(checkpoint, masked_phantoms / IMAGE, box=Box(10, 20, 50, 60))
    assert by_mask.x.shape == other.x.shape == (1, 1, 32, 32)
    assert not torch.equal(by_mask.x, other.x)
    with pytest.raises(MirstError, match="there is no box for"):
        read_figure_input(checkpoint, phantoms / IMAGE)


def test_the_command(mirst, masked_phantoms, tmp_path):
    out = tmp_path / "lesion.png"
    mask = masked_phantoms / "malignant" / "masks" / "phantom-001.png"
    for extra in ((), ("--box", "10,20,50,60"), ("--mask", mask)):
        code, text, _ = mirst("figure", "lesion", masked_phantoms / IMAGE, "--out", out, *extra)
        assert (code, text) == (0, f"Figure: {out}\n")
        with Image.open(out) as figure:
            assert figure.width > 2 * figure.height
        out.unlink()
    code, _, error = mirst("figure", "lesion", masked_phantoms / IMAGE, "--out", masked_phantoms / IMAGE)
    assert code == 2
    assert error.count("\n") == 1
