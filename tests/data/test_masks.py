from pathlib import PurePath

import numpy as np
import pytest
from PIL import Image

from mirst.data import audit_records, read_dataset
from mirst.data.masks import is_mask, is_mask_folder, masks_by_image, masks_of
from tests.data.helpers import write_csv


@pytest.mark.parametrize(
    "name",
    [
        "Benign/benign (1)_mask.png", "benign (1)_mask_1.png", "BENIGN (1)_MASK.PNG", "benign (1)_Mask.tif",
        "1-mask.bmp", "a mask.webp", "a_masks.gif", "mask_0001-l.png", "Mask.png", "mask1.png", "a1mask.png",
        "caseMask2.jpg", "a.mask.jpg", "a_mask", "benign (1)_mask (2).png", "masks/1.png", "Mask/1.png",
        "a_mask_final.jpeg",
    ],
)  # fmt: skip
def test_masks_by_name(name):
    assert is_mask(PurePath(name))


@pytest.mark.parametrize(
    "name", ["unmasked.png", "a_masked.png", "damask.png", "a/1.png", "maskara.png", "masks.png.d/1.png"]
)
def test_images_whose_names_only_sound_like_masks(name):
    assert not is_mask(PurePath(name))


def test_folders_of_masks():
    assert all(map(is_mask_folder, ("mask", "Masks", "benign_mask", "lesion masks")))
    assert not any(map(is_mask_folder, ("images_and_masks", "benign", "img-mask", "damask")))


@pytest.mark.parametrize(
    ("image", "masks"),
    [
        ("benign/benign (1).png", ["benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png"]),
        ("a/1.jpg", ["a/1_Mask.PNG"]),
        ("a/1.png", ["a/1.mask (2).gif"]),
        ("a/0001-l.png", ["a/mask_0001-l.png"]),
        ("a/1.png", ["a/masks/1.bmp"]),
        ("a/1.png", ["a/Mask/1_mask.png"]),
        ("COVID/images/1.png", ["COVID/masks/1.png"]),
        ("benign/1.png", ["benign_mask/1.png"]),
        ("a/1.png", []),
    ],
)
def test_the_masks_of_an_image_by_their_names(tmp_path, image, masks):
    others = ["benign/benign (10)_mask.png", "a/11_mask.png", "a/1_2_mask.png", "a/1_mask.txt", "masks/1.png"]
    for name in [image, *masks, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert masks_of(tmp_path / image) == [tmp_path / name for name in masks]


def test_no_mask_of_busi_is_lost(real_data):
    """BUSI has one mask per image, and 17 images of the two classes have more."""
    folder = real_data / "busi" / "Dataset_BUSI_with_GT"
    for label, more in (("benign", 16), ("malignant", 1)):
        files = sorted((folder / label).iterdir())
        masks = {path for path in files if "_mask" in path.name}
        found = masks_by_image([path for path in files if path not in masks])
        assert min(map(len, found.values())) == 1
        assert sum(map(len, found.values())) == len(found) + more + (label == "benign")
        assert {path for paths in found.values() for path in paths} == masks


def gray(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def blob(path, radius=9, low=0, high=255, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:80, :80]
    inside = (y - 40) ** 2 + (x - 40) ** 2 < radius**2
    Image.fromarray(np.where(inside, high, low).astype(np.uint8)).save(path, **settings)


@pytest.mark.parametrize(
    "classes", [("Benign", "Malignant"), ("benign", "malignant", "normal"), ("BENIGN", "MALIGNANT"), ("cyst", "tumour")]
)
@pytest.mark.parametrize(
    ("image", "mask"), [(".png", "_mask.png"), (".jpg", "_mask.png"), (".bmp", "_MASK.GIF"), (".PNG", "_mask_1.png")]
)
def test_masks_are_no_images_in_any_class_set_case_and_suffix(tmp_path, classes, image, mask):
    for seed, label in enumerate(classes):
        for number in (1, 2):
            gray(tmp_path / label / f"{label} ({number}){image}", 10 * seed + number)
            blob(tmp_path / label / f"{label} ({number}){mask}")
    blob(tmp_path / classes[0] / f"{classes[0]} (9)_mask.png")  # an orphan
    told = []
    records = read_dataset(tmp_path, on_remark=told.append)
    assert {record.path.name for record in records} == {f"{c} ({n}){image}" for c in classes for n in (1, 2)}
    assert told == [
        next(text for text in told if text.startswith(f"{2 * len(classes) + 1} masks were not taken for images: "))
    ]


def test_masks_in_folders_of_their_own(tmp_path):
    """As in `COVID/images`, `COVID/masks`, and with masks beside the classes."""
    for seed, label in enumerate(("COVID", "Normal")):
        gray(tmp_path / label / "images" / "1.png", seed)
        blob(tmp_path / label / "masks" / "1.png")
        blob(tmp_path / f"{label}_mask" / "1.png")
    blob(tmp_path / "Masks" / "all.png")
    told = []
    assert [r.name for r in read_dataset(tmp_path, on_remark=told.append)] == [
        "COVID/images/1.png",
        "Normal/images/1.png",
    ]
    assert len(told) == 1
    assert told[0].startswith("5 masks were not taken for images: ")


def test_masks_that_a_csv_lists_are_no_images(tmp_path):
    rows = [("path", "label")]
    for seed, label in enumerate(("a", "b")):
        gray(tmp_path / f"{label}.png", seed)
        blob(tmp_path / f"{label}_Mask.png")
        rows += [(f"{label}.png", label), (f"{label}_Mask.png", label)]
    told = []
    records = read_dataset(write_csv(tmp_path / "list.csv", rows), on_remark=told.append)
    assert [record.name for record in records] == ["a.png", "b.png"]
    assert told == ["2 masks were not taken for images: a_Mask.png, b_Mask.png."]


@pytest.fixture
def outlined(tmp_path):
    for seed, label in enumerate(("a", "b")):
        gray(tmp_path / label / "one.png", 2 * seed)
        gray(tmp_path / label / "two.png", 2 * seed + 1)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("one_seg.png", {}),
        ("one_outline.jpg", {"quality": 75}),
        ("one-gt.gif", {}),
        ("one.bmp", {}),
        ("one (lesion).webp", {"quality": 80}),
        ("one_01.png", {"low": 0, "high": 1}),
        ("one_small.png", {"radius": 2}),
        ("one_inverted.png", {"low": 255, "high": 0}),
        ("one_label.tif", {"low": 1, "high": 2}),
    ],
)
def test_what_looks_like_a_mask_is_warned_of(outlined, name, settings):
    blob(outlined / "a" / name, **settings)
    (warning,) = audit_records(read_dataset(outlined)).remarks()
    assert warning.startswith(f"WARNING: 1 image looks like a mask, with two gray levels: a/{name} (beside a/one.png).")


def test_the_warning_needs_no_image_beside_and_counts(outlined):
    for number in range(5):
        blob(outlined / "a" / f"S{number}.png")
    (warning,) = audit_records(read_dataset(outlined)).remarks()
    assert warning.startswith(
        "WARNING: 5 images look like masks, with two gray levels: a/S0.png, a/S1.png, a/S2.png and 2 more."
    )


def test_no_real_image_looks_like_a_mask(real_data):
    assert audit_records(read_dataset(real_data / "busi")).found.two_level == []
