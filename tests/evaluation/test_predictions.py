import json
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from mirst.data import ImageFile, load_images
from mirst.evaluation import predict, prediction_document, prediction_table
from mirst.nn import build_model, save_model
from tests.helpers import CARD


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model(CARD.model, 1, 2, CARD.drop_max).eval()
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, model, CARD)
    return path, model


@pytest.fixture
def loop(tmp_path):
    """A DICOM file of three frames."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.3.1", "1.2.3"
    data = FileDataset(str(tmp_path / "loop.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = 40, 50, 3, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PixelData = np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8).tobytes()
    data.save_as(tmp_path / "loop.dcm", enforce_file_format=True)
    return tmp_path / "loop.dcm"


def test_answers_are_those_of_the_network(checkpoint, phantoms):
    path, model = checkpoint
    card, found = predict(path, [phantoms])
    files = [ImageFile(image) for image in sorted(phantoms.glob("*/*.png"))]
    with torch.no_grad():
        logits = model(torch.from_numpy(load_images(files, 32)).float() / 255)
    assert card == CARD
    assert [one.image for one in found] == [file.path for file in files]
    np.testing.assert_allclose([one.probabilities for one in found], logits.softmax(1), atol=1e-6)
    assert [one.predicted_class for one in found] == [CARD.classes[k] for k in logits.argmax(1)]
    assert all(one.probability == pytest.approx(one.probabilities[1], abs=1e-6) for one in found)


def test_every_frame_is_an_image(checkpoint, loop):
    _, found = predict(checkpoint[0], [loop])
    assert [one.name for one in found] == [f"{loop}#{frame}" for frame in range(3)]
    assert len({one.probability for one in found}) == 3


def test_files_that_are_left_out_are_named(checkpoint, phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "data")
    (tmp_path / "data" / "readme.txt").write_text("x")
    told = []
    predict(checkpoint[0], [tmp_path / "data"], on_progress=told.append)
    assert told == [
        "1 file(s) in the folders are left out, because their names are those of masks or their "
        "format is not supported: "
        f"{tmp_path / 'data' / 'readme.txt'}"
    ]


def test_table_and_document_hold_the_same(checkpoint, phantoms):
    card, found = predict(checkpoint[0], sorted(phantoms.glob("*/*.png"))[:2])
    table = prediction_table(card, found)
    document = json.loads(json.dumps(prediction_document(checkpoint[0], card, found)))
    assert list(table.columns) == ["image", "answer", "probability of benign", "probability of malignant"]
    assert document["classes"] == ["benign", "malignant"]
    assert (document["positive"], document["threshold"]) == ("malignant", 0.0)
    for row, one in zip(table.to_dict("records"), document["predictions"], strict=True):
        assert (row["image"], row["answer"], None) == (one["image"], one["answer"], one["frame"])
        assert [row[f"probability of {name}"] for name in one["probabilities"]] == list(one["probabilities"].values())


def test_pages_and_few_gray_levels_are_remarked(checkpoint, phantoms, tmp_path):
    with Image.open(sorted(phantoms.glob("*/*.png"))[0]) as opened:
        page = opened.convert("L")
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page.rotate(90)])
    page.point(lambda value: value // 64 * 64).save(tmp_path / "few.png")
    page.save(tmp_path / "whole.png")
    card, (few, pages, whole) = predict(
        checkpoint[0], [tmp_path / name for name in ("few.png", "pages.tif", "whole.png")]
    )
    levels = f"has only {few.few_levels} of 256 gray levels after scaling"
    assert few.few_levels <= 4
    assert few.remarks(replace(card, value_range=None)) == [f"{levels}; check that it was saved with all of them"]
    assert few.remarks(replace(card, value_range=(0.0, 4095.0))) == [
        f"{levels}; compare its values with 0 to 4095, the range in the model's card"
    ]
    assert pages.remarks(card) == ["contains 2 pages or frames; only the first is read"]
    assert whole.remarks(card) == []
