"""A bundle is run by MONAI where mirst cannot be imported, and answers as mirst does."""

import csv
import json
import runpy
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import logit

from mirst.data import ImageFile, load_images
from mirst.errors import MirstError
from mirst.evaluation import predict
from mirst.export import export_model
from mirst.nn import Ensemble, build_model, load_model, save_model
from tests.data.deep import write_png16, write_tiff
from tests.helpers import CARD

MONAI = """
import runpy, sys
sys.modules["mirst"] = None
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


def written(path, card):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(card.model, card.channels, len(card.classes), card.drop_max)
    save_model(path, model, card)
    return path


@pytest.fixture(scope="module")
def pictures(phantoms):
    return sorted((phantoms / "malignant").iterdir())


@pytest.fixture(scope="module")
def checkpoint(pictures, tmp_path_factory):
    """Its threshold is such that it answers malignant for one picture alone, for several at 0."""
    path = written(tmp_path_factory.mktemp("trained") / "model.safetensors", CARD)
    _, at_0 = predict(path, pictures)
    assert [prediction.predicted_class for prediction in at_0].count("malignant") > 1
    *_, second, first = sorted(prediction.probability for prediction in at_0)
    return written(path, replace(CARD, threshold=float(logit((first + second) / 2))))


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    return export_model(checkpoint, "monai-bundle", tmp_path_factory.mktemp("exported") / "net")


def monai(bundle, *arguments):
    command = [sys.executable, "-c", MONAI, *map(str, arguments)]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_folder_has_monais_layout(bundle):
    files = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert {file for file in files if not file.startswith("scripts/")} == {
        "LICENSE",
        "configs/inference.json",
        "configs/logging.conf",
        "configs/metadata.json",
        "docs/README.md",
        "models/model.pt",
        "models/model.pt2",
    }
    assert [path.name for path in bundle.parent.iterdir()] == ["net"]
    assert "Apache License" in (bundle / "LICENSE").read_text()
    assert "`(N, 1, 32, 32)` gray images" in (bundle / "docs" / "README.md").read_text()


def test_the_metadata_tell_what_one_must_know(bundle, checkpoint):
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["schema"].startswith("https://github.com/Project-MONAI/")
    for package, key in (("monai", "monai_version"), ("numpy", "numpy_version")):
        assert metadata[key] == version(package)
    needed = metadata["required_packages_version"]
    assert needed == {package: version(package) for package in ("pytorch-ignite", "fire", "pillow")}
    image, pred = metadata["network_data_format"]["inputs"]["image"], metadata["network_data_format"]["outputs"]["pred"]
    assert (image["num_channels"], image["spatial_shape"], image["value_range"]) == (1, [32, 32], [0, 1])
    assert pred["channel_def"] == {"0": "benign", "1": "malignant"}
    point = metadata["operating_point"]
    assert point == {
        "classes": ["benign", "malignant"],
        "positive": "malignant",
        "threshold": load_model(checkpoint)[1].threshold,
    }


def classified(bundle, checkpoint, pictures, out):
    """The answers that MONAI writes, which are those of mirst."""
    monai(
        bundle, "run", "--config_file", "configs/inference.json", "--bundle_root", ".",
        "--dataset_dir", pictures[0].parent, "--output_dir", out,
    )  # fmt: skip
    with (out / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    card, expected = predict(checkpoint, pictures)
    assert [row["image"] for row in rows] == [str(prediction.image) for prediction in expected]
    assert [float(row[card.positive]) for row in rows] == pytest.approx([p.probability for p in expected], abs=1e-6)
    assert [sum(float(row[name]) for name in card.classes) for row in rows] == pytest.approx([1.0] * len(rows))
    assert [row["answer"] for row in rows] == [prediction.predicted_class for prediction in expected]
    return [row["answer"] for row in rows]


def test_monai_classifies_a_folder_at_the_operating_threshold(bundle, checkpoint, pictures, tmp_path):
    assert classified(bundle, checkpoint, pictures, tmp_path).count("malignant") == 1


def test_monai_verifies_the_network(bundle):
    told = monai(
        bundle, "verify_net_in_out", "network_def",
        "--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json",
    )  # fmt: skip
    assert "verified with no error" in told


def test_the_network_takes_any_batch_in_any_mode_and_moves_as_a_whole(bundle, checkpoint, pictures):
    network = runpy.run_path(str(bundle / "scripts" / "network.py"))["ExportedNetwork"](bundle / "models" / "model.pt2")
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    model = load_model(checkpoint)[0]
    x = torch.from_numpy(load_images(map(ImageFile, pictures), 32)) / 255
    for count in (1, 2, 7):
        for mode in (network.train(), network.eval()):
            torch.testing.assert_close(mode(x[:count]), model(x[:count]), atol=1e-5, rtol=0)
    assert network.to("meta")(x.to("meta")).device.type == "meta"


def rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn(40, 25, 3).save(path, exif=exif)


def drawn(width, height, channels):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


PICTURES = {
    "gray.png": drawn(41, 30, 1).save,
    "strip.bmp": drawn(3, 90, 3).save,
    "small.tif": drawn(5, 4, 1).save,
    "turned.jpg": rotated,
    "transparent.png": drawn(20, 33, 4).save,
    "palette.png": drawn(31, 31, 3).quantize(7).save,
    "twelve.png": Image.fromarray(np.arange(0, 4000, 4, dtype=np.uint16).reshape(25, 40)).save,
    "float.tif": Image.fromarray(np.linspace(-5, 900, 1000, dtype=np.float32).reshape(25, 40)).save,
    "signed.tif": partial(write_tiff, pixels=np.arange(-500, 500, dtype=np.int16).reshape(25, 40)),
    "unsigned.tif": partial(write_tiff, pixels=np.arange(0, 4e9, 4e6).astype(np.uint32).reshape(25, 40)),
    "bytes.tif": partial(write_tiff, pixels=np.arange(-120, 120, dtype=np.int8).reshape(12, 20)),
    "white-is-zero.tif": partial(write_tiff, pixels=np.arange(800, dtype=np.uint16).reshape(20, 40), photometric=0),
    "colour.tif": partial(write_tiff, pixels=np.arange(3000, dtype=np.uint16).reshape(25, 40, 3), order=">"),
    "colour.png": partial(
        write_png16, pixels=np.arange(3000, dtype=np.uint16).reshape(25, 40, 3), transparent=[9, 10, 11]
    ),
    "rgba.png": partial(write_png16, pixels=np.arange(4000, dtype=np.uint16).reshape(25, 40, 4) * 16),
    "gray-alpha.png": partial(write_png16, pixels=np.arange(2000, dtype=np.uint16).reshape(25, 40, 2) * 32),
    "hidden.png": partial(write_png16, pixels=np.arange(1000, dtype=np.uint16).reshape(25, 40, 1), transparent=[999]),
    "lab.tif": Image.new("LAB", (12, 9), (120, 140, 90)).save,
    "deep.png": Image.fromarray(np.arange(0, 65000, 50, dtype=np.uint16).reshape(26, 50)).save,
}


@pytest.mark.parametrize("value_range", [None, (100.0, 4095.0)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_become_the_very_pixels_of_mirst(bundle, tmp_path, name, channels, value_range):
    PICTURES[name](tmp_path / name)
    scripts = runpy.run_path(str(bundle / "scripts" / "pictures.py"))
    assert scripts["picture_files"](tmp_path) == [str(tmp_path / name)]
    with Image.open(tmp_path / name) as picture:
        theirs = np.asarray(scripts["Letterbox"](32, channels, value_range)(picture))
    (ours,) = load_images([ImageFile(tmp_path / name, value_range=value_range)], 32, channels)
    assert np.array_equal(np.atleast_3d(theirs).transpose(2, 0, 1), ours)


def test_a_folder_without_pictures_gets_a_sentence(bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"contains no .*--dataset_dir"):
        runpy.run_path(str(bundle / "scripts" / "pictures.py"))["picture_files"](tmp_path)


def test_more_classes_and_colour(tmp_path):
    card = replace(CARD, classes=("a", "b", "c"), positive="b", channels=3, drop_max=False)
    checkpoint = written(tmp_path / "model.safetensors", card)
    bundle = export_model(checkpoint, "monai-bundle", tmp_path / "net")
    tensors = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    assert tensors["inputs"]["image"]["channel_def"] == {"0": "red", "1": "green", "2": "blue"}
    assert tensors["outputs"]["pred"]["num_channels"] == 3
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        drawn(30 + number, 20, 3).save(tmp_path / "pictures" / f"{number}.png")
    classified(bundle, checkpoint, sorted((tmp_path / "pictures").iterdir()), tmp_path / "eval")


def test_a_folder_that_is_there_is_left_as_it_was(checkpoint, tmp_path):
    (tmp_path / "net").mkdir()
    with pytest.raises(MirstError, match=r"net exists; give a new folder with --out, or remove .*net"):
        export_model(checkpoint, "monai-bundle", tmp_path / "net")
    assert [path.name for path in tmp_path.rglob("*")] == ["net"]


def test_the_bundle_of_an_ensemble_contains_all_members(tmp_path):
    members = [build_model("resnet_tiny", 1, 2, drop_max=True) for _ in range(2)]
    path, card = tmp_path / "model.safetensors", replace(CARD, members=2)
    save_model(path, Ensemble(members, (0.3, -0.5)).eval(), card)
    bundle = export_model(path, "monai-bundle", tmp_path / "bundle")
    x, model = torch.rand(3, 1, CARD.size, CARD.size), load_model(path)[0]
    with torch.no_grad():
        expected = sum(member.eval()(x) for member in members) / 2 + torch.tensor([-0.05, 0.05])
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(
            torch.export.load(bundle / "models" / "model.pt2").module()(x), expected, atol=1e-5, rtol=0
        )
    assert "an ensemble of 2 x resnet_tiny" in (bundle / "docs" / "README.md").read_text()
    assert json.loads((bundle / "configs" / "metadata.json").read_text())["operating_point"]["threshold"] == 0
