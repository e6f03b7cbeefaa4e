import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset

from mirst.calibration import Calibration
from mirst.data import ImageFile, load_images
from mirst.errors import MirstError
from mirst.evaluation import Prediction, predict, prediction_document, prediction_table
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


@pytest.fixture(scope="module")
def calibrated(checkpoint, tmp_path_factory):
    """The same model with a calibration of 12 benign images and 3 malignant ones."""
    path = tmp_path_factory.mktemp("calibrated") / "model.safetensors"
    rng = np.random.default_rng(0)
    labels = np.array([0] * 12 + [1] * 3)
    found = Calibration.of(rng.normal(0, 3, (15, 2)), labels, [str(i) for i in range(15)])
    save_model(path, checkpoint[1], replace(CARD, calibration=found))
    return path, found


def test_a_calibration_changes_probabilities_and_no_class(checkpoint, calibrated, phantoms):
    _, before = predict(checkpoint[0], [phantoms])
    card, after = predict(calibrated[0], [phantoms])
    log_odds = np.log([one.probability / (1 - one.probability) for one in before])
    expected = 1 / (1 + np.exp(-log_odds / card.calibration.temperature))
    np.testing.assert_allclose([one.probability for one in after], expected, atol=1e-6)
    assert card.calibration.temperature > 1.2
    assert [one.predicted_class for one in after] == [one.predicted_class for one in before]
    assert {one.class_set for one in after} == {None}
    assert not any(one.abstains for one in after)


def test_sets_are_those_of_the_calibration_and_say_what_is_in_all_of_them(checkpoint, calibrated, phantoms):
    told = []
    card, found = predict(calibrated[0], [phantoms], on_progress=told.append, coverage=0.8)
    assert told == ["at coverage 0.8, every set contains malignant: there were too few validation images"]
    _, raw = predict(checkpoint[0], [phantoms])
    logits = np.log([one.probabilities for one in raw])
    contained = calibrated[1].sets(logits, 0.8)
    names = [tuple(name for name, own in zip(card.classes, row, strict=True) if own) for row in contained]
    assert [one.class_set for one in found] == names
    assert [one.abstains for one in found] == [one.class_set != (one.predicted_class,) for one in found]
    table = prediction_table(card, found)
    document = json.loads(json.dumps(prediction_document(calibrated[0], card, found, 0.8)))
    assert (document["coverage"], document["temperature"]) == (0.8, card.calibration.temperature)
    for row, one in zip(table.to_dict("records"), document["predictions"], strict=True):
        assert [name for name in card.classes if row[f"{name} in set"]] == one["set"]
        assert row["abstains"] == one["abstains"]


def test_a_set_that_lacks_the_predicted_class_abstains():
    one = Prediction(Path("a.png"), None, "benign", (0.6, 0.4), 0.4)
    sets = {None: False, (): True, ("benign",): False, ("malignant",): True, ("benign", "malignant"): True}
    assert {own: replace(one, class_set=own).abstains for own in sets} == sets


def test_sets_need_a_calibration_and_a_rate(checkpoint, calibrated, phantoms):
    with pytest.raises(MirstError, match=r"model\.safetensors has no calibration, so it gives no sets of classes"):
        predict(checkpoint[0], [phantoms], coverage=0.9)
    with pytest.raises(MirstError, match="coverage is 90; it must be above 0 and below 1"):
        predict(calibrated[0], [phantoms], coverage=90)
