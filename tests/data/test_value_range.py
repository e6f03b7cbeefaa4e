"""One range for a data set: told by the audit, warned of, kept for single images, carried to other machines."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit

from mirst.data import ImageFile, audit_records, decode, prepare_images, read_dataset, resolve_conflicts, write_prepared
from mirst.data.images import with_shared_range
from mirst.data.inspection import FEW_LEVELS, few_levels
from mirst.errors import MirstError
from mirst.evaluation import predict
from mirst.evaluation.on_dataset import evaluate_on
from mirst.evaluation.value_range import range_remark
from mirst.nn import build_model, load_model, save_model
from mirst.study import load_spec, train
from mirst.study.load import parse_defense
from mirst.study.prepared import prepare
from tests.data.helpers import write_dicom
from tests.helpers import CARD


def deep_set(phantoms, root, factor=16, keep=lambda number: False):
    """The phantoms with 12 bits in 16-bit PNGs, some of them kept as they are."""
    for number, path in enumerate(sorted(phantoms.rglob("*.png"))):
        target = root / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(Image.open(path))
        Image.fromarray(pixels if keep(number) else pixels.astype(np.uint16) * factor).save(target)
    return root


def pixels_of(audited, size=32):
    return prepare_images([record.file for record in resolve_conflicts(audited)], size).pixels


def test_twelve_bits_in_sixteen_are_the_eight_bit_images_again(phantoms, tmp_path):
    deep = audit_records(read_dataset(deep_set(phantoms, tmp_path / "deep")))
    assert deep.found.value_range == (0, 4095)
    assert {record.value_range for record in deep.records} == {(0, 4095)}
    assert deep.range_warnings() == []
    assert (
        "Values shown as black and white: 24 images do not define a range, contain values from 0 to 4080 and are "
        "scaled with 0 to 4095." in deep.summary()
    )
    shallow = audit_records(read_dataset(phantoms))
    assert shallow.found.value_range is None
    assert shallow.summary()[-1] == "Values shown as black and white: 0 to 255 for 24 images (8 bits)."
    assert np.abs(pixels_of(deep).astype(int) - pixels_of(shallow)).max() <= 1


def test_a_dark_image_stays_dark_beside_the_others(phantoms, tmp_path):
    root = deep_set(phantoms, tmp_path / "deep")
    path = sorted((root / "benign").iterdir())[0]
    bright = np.asarray(Image.open(path))
    Image.fromarray(bright // 2).save(path)
    found = audit_records(read_dataset(root))
    (record,) = [one for one in found.records if one.path == path]
    alone, shared = (np.asarray(decode(file)) for file in (record.file._replace(value_range=None), record.file))
    assert shared == pytest.approx(bright // 2 / 4095 * 255, abs=0.51)
    assert alone == pytest.approx(bright // 2 / 2047 * 255, abs=0.51)


def test_sets_of_two_depths_are_warned_of(phantoms, tmp_path):
    eight = audit_records(read_dataset(deep_set(phantoms, tmp_path / "a", keep=lambda number: number % 3 == 0)))
    (sentence,) = eight.range_warnings()
    assert sentence.startswith(
        "SEVERAL RANGES: 8 of 24 images are scaled with another range than the 16 images that use 0 to 4095"
    )
    root = deep_set(phantoms, tmp_path / "b")
    for path in sorted((root / "benign").iterdir())[:2]:
        Image.fromarray(np.asarray(Image.open(path)) * 16).save(path)
    few, narrow = audit_records(read_dataset(root)).range_warnings()
    assert few.startswith("FEW GRAY LEVELS: 22 of 24 images have fewer than 32 of 256 gray levels after scaling")
    assert "22 images without a defined range use a quarter or less of 0 to 65535" in narrow
    assert set(audit_records(read_dataset(root)).summary()) > {f"WARNING: {few}", f"WARNING: {narrow}"}


def test_windows_that_differ_are_warned_of(tmp_path):
    pixels = np.random.default_rng(0).integers(900, 1100, (40, 40)).astype(np.uint16)
    for number, width in enumerate([400, 400, 400, 80]):
        folder = tmp_path / "set" / ("benign" if number % 2 else "malignant")
        write_dicom(folder / f"{number}.dcm", pixels, bits=12, WindowCenter=1000, WindowWidth=width)
    found = audit_records(read_dataset(tmp_path / "set"))
    (sentence,) = found.range_warnings()
    common = "1 of 4 images are scaled with another range than the 3 images that use 800 to 1199 (window)"
    assert f"{common}; for example, benign/3.dcm uses 960" in sentence
    assert "2 ranges within 800 to 1199 for 4 images (window)" in found.summary()[-1]


@pytest.mark.parametrize(
    ("levels", "kept"), [(2, 2), (FEW_LEVELS - 1, FEW_LEVELS - 1), (FEW_LEVELS, None), (256, None)]
)
def test_few_gray_levels(levels, kept):
    image = Image.fromarray((np.arange(256 * 16).reshape(64, 64) % levels).astype(np.uint8))
    assert few_levels(image) == kept


@pytest.mark.parametrize("value", [0, 255])
def test_rare_values_do_not_count_as_gray_levels(value):
    pixels = np.full((100, 100), value, dtype=np.uint8)
    pixels[0, :40] = np.arange(100, 140)
    assert few_levels(Image.fromarray(pixels)) == 1


def test_real_images_keep_their_gray_levels(real_data):
    for name in ("busi/Dataset_BUSI_with_GT/malignant", "blood/bccd/Platelets", "xray/kermany/NORMAL"):
        paths = [path for path in sorted((real_data / name).rglob("*.*g")) if "mask" not in path.name][:40]
        assert paths
        assert not [path for path in paths if few_levels(Image.open(path).convert("L")) is not None]


def test_a_model_sees_a_single_image_as_in_training(phantoms, tmp_path):
    root = deep_set(phantoms, tmp_path / "deep")
    spec = load_spec(None, ["data.size=32", "training.epochs=1", "folds.count=2"]).with_data(root)
    told = []
    train(spec, parse_defense("ce", False), tmp_path / "model" / "m.safetensors", on_remark=told.append)
    assert told == []
    model, card = load_model(tmp_path / "model" / "m.safetensors")
    assert card.value_range == (0, 4095)
    assert "| 0 to 4095, for files that do not define a range |" in (tmp_path / "model" / "MODEL_CARD.md").read_text()
    rows = evaluate_on(model, card, root, {})
    dark = sorted((root / "benign").iterdir())[3]
    Image.fromarray(np.asarray(Image.open(dark)) // 8).save(tmp_path / "dark.png")
    images = [root / name for name in rows["image"]]
    _, answers = predict(tmp_path / "model" / "m.safetensors", [*images, tmp_path / "dark.png"])
    calibrated = expit(rows["score"] / card.calibration.temperature)
    assert [one.probability for one in answers[:-1]] == pytest.approx(calibrated.tolist(), abs=1e-5)
    assert answers[0].few_levels is None
    assert answers[-1].few_levels < FEW_LEVELS
    x = torch.from_numpy(prepare(spec).images.pixels[:4] / 255).float()
    assert expit(rows["score"][:4].to_numpy()) == pytest.approx(torch.softmax(model(x), 1)[:, 1].tolist(), abs=1e-5)


def test_a_prepared_folder_keeps_the_range_and_refuses_another(phantoms, tmp_path):
    root = deep_set(phantoms, tmp_path / "deep")
    expected = pixels_of(audit_records(read_dataset(root)))
    folder = write_prepared(read_dataset(root), tmp_path / "away", 32)
    shutil.rmtree(root)
    found = audit_records(read_dataset(folder))
    assert found.found.value_range == (0, 4095)
    assert np.array_equal(pixels_of(found), expected)
    assert found.summary()[-1].startswith("Values shown as black and white: 24 images do not define a range")
    model = build_model("resnet_tiny", 1, 2)
    with pytest.raises(MirstError, match=r"prepared with 0 to 4095 as black and white, .* trained with 0 to 65535"):
        evaluate_on(model, replace(CARD, value_range=(0.0, 65535.0)), folder, {})
    assert len(evaluate_on(model.eval(), replace(CARD, value_range=(0.0, 4095.0)), folder, {})) == 24


def test_files_with_a_given_range_keep_it(phantoms, tmp_path):
    records = read_dataset(deep_set(phantoms, tmp_path / "deep"))
    files = [record.file for record in records]
    assert {file.value_range for file in with_shared_range(files)} == {(0, 4095)}
    given = [file._replace(value_range=(0.0, 9000.0)) for file in files]
    assert with_shared_range(given) == given
    assert prepare_images(given, 32).folder != prepare_images(with_shared_range(files), 32).folder


@pytest.mark.parametrize("value_range", [(0.0, 4095.0), (-1024.0, 3071.0), (0.0, 1.0), None])
def test_a_checkpoint_keeps_the_range(tmp_path, value_range):
    card = replace(CARD, value_range=value_range)
    save_model(tmp_path / "m.safetensors", build_model("resnet_tiny", 1, 2, drop_max=True), card)
    assert load_model(tmp_path / "m.safetensors")[1] == card


@pytest.mark.parametrize("value_range", [(5.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_a_range_that_is_none_is_refused(tmp_path, value_range):
    card = replace(CARD, value_range=value_range)
    save_model(tmp_path / "m.safetensors", build_model("resnet_tiny", 1, 2, drop_max=True), card)
    with pytest.raises(MirstError, match="not a checkpoint written by mirst"):
        load_model(tmp_path / "m.safetensors")


def test_images_that_do_not_fit_the_models_range_are_remarked(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray((np.arange(64 * 64).reshape(64, 64) % 3000).astype(np.uint16)).save(path)
    Image.fromarray((np.arange(64 * 64).reshape(64, 64) % 256).astype(np.uint8)).save(tmp_path / "eight.png")
    card = replace(CARD, value_range=None)
    assert "does not define a range" in range_remark(ImageFile(path), card)
    assert "outside the range 0 to 1000" in range_remark(ImageFile(path), replace(CARD, value_range=(0, 1000)))
    assert range_remark(ImageFile(path), replace(CARD, value_range=(0, 4095))) is None
    assert range_remark(ImageFile(tmp_path / "eight.png"), card) is None
