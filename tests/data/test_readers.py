import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirst.data import positive_class, read_dataset
from mirst.errors import MirstError


def save(path: Path, value: int = 0, size=(12, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


@pytest.fixture
def busi(tmp_path):
    root = tmp_path / "busi" / "Dataset_BUSI_with_GT"
    for label in ("benign", "malignant", "normal"):
        for number in (1, 2, 10):
            save(root / label / f"{label} ({number}).png")
            save(root / label / f"{label} ({number})_mask.png")
    save(root / "benign" / "benign (2)_mask_1.png")
    return root


@pytest.fixture
def busbra(tmp_path):
    root = tmp_path / "busbra" / "BUSBRA"
    rows = [("bus_0001-l", 1, "malignant"), ("bus_0001-r", 1, "malignant"), ("bus_0003-l", 3, "benign")]
    for name, _, _ in rows:
        save(root / "Images" / f"{name}.png")
    with (root / "bus_data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("ID", "Case", "Pathology"), *rows])
    return root


@pytest.mark.parametrize("above", [False, True])
def test_busi_masks_are_no_images(busi, above):
    records = read_dataset(busi.parent if above else busi)
    assert Counter(r.label for r in records) == {"benign": 3, "malignant": 3, "normal": 3}
    assert {(r.group, r.source) for r in records} == {(None, "busi")}
    assert [r.path.name for r in records[:3]] == ["benign (1).png", "benign (2).png", "benign (10).png"]


def test_classes_can_be_kept(busi):
    assert {r.label for r in read_dataset(busi, ["benign", "malignant"])} == {"benign", "malignant"}
    with pytest.raises(MirstError, match="no class cyst"):
        read_dataset(busi, ["benign", "cyst"])
    with pytest.raises(MirstError, match="one class only"):
        read_dataset(busi, ["benign"])


@pytest.mark.parametrize("above", [False, True])
def test_busbra_groups_by_case(busbra, above):
    records = read_dataset(busbra.parent if above else busbra)
    assert [(r.path.stem, r.label, r.group, r.source) for r in records] == [
        ("bus_0003-l", "benign", "busbra-case-3", "busbra"),
        ("bus_0001-l", "malignant", "busbra-case-1", "busbra"),
        ("bus_0001-r", "malignant", "busbra-case-1", "busbra"),
    ]


def test_busbra_tells_device_and_birads(busbra):
    (busbra / "bus_data.csv").write_text(
        "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX\n"
        'bus_0001-l,1,cyst,benign,2,GE Logiq 7,8,8,left,"[1,1,4,4]"\n'
        'bus_0003-l,3,,malignant,4,,8,8,left,"[1,1,4,4]"\n'
    )
    one, other = read_dataset(busbra)
    assert one.attributes == {"Histology": "cyst", "BIRADS": "2", "Device": "GE Logiq 7", "Side": "left"}
    assert (one.scanner, other.scanner) == ("GE Logiq 7", None)


def test_busbra_without_an_image_or_column_gets_a_sentence(busbra):
    (busbra / "Images" / "bus_0003-l.png").unlink()
    with pytest.raises(MirstError, match="bus_0003-l"):
        read_dataset(busbra)
    (busbra / "bus_data.csv").write_text("ID,Pathology\na,b\n")
    with pytest.raises(MirstError, match="Case"):
        read_dataset(busbra)


def test_class_folders(tmp_path):
    for name in ("b/2.JPG", "b/1.png", "a/x.tif", "a/x_mask.png"):
        save(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / ".git").mkdir()
    records = read_dataset(tmp_path)
    assert [(r.path.name, r.label) for r in records] == [
        ("x.tif", "a"),
        ("1.png", "b"),
        ("2.JPG", "b"),
    ]
    assert {r.source for r in records} == {tmp_path.name}
    assert records[0].name == "a/x.tif"


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "Testing"), ("train",)])
def test_the_parts_of_a_published_split_are_one_data_set(tmp_path, parts):
    for number, part in enumerate(parts):
        for label in ("NORMAL", "PNEUMONIA"):
            save(tmp_path / part / label / f"{number}.jpeg", number)
    records = read_dataset(tmp_path)
    assert Counter(r.label for r in records) == {"NORMAL": len(parts), "PNEUMONIA": len(parts)}
    assert {r.name.split("/")[0] for r in records} == set(parts)


def test_classes_called_test_and_train_may_hold_images(tmp_path):
    save(tmp_path / "train" / "1.png")
    save(tmp_path / "test" / "1.png")
    assert {r.label for r in read_dataset(tmp_path)} == {"train", "test"}


def test_what_is_no_data_set_gets_a_sentence(tmp_path):
    with pytest.raises(MirstError, match=rf"^{tmp_path / 'missing'} does not exist"):
        read_dataset(tmp_path / "missing")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(MirstError, match=r"notes\.txt is neither a \.csv nor a \.npz file"):
        read_dataset(tmp_path / "notes.txt")
    with pytest.raises(MirstError, match="no class folders"):
        read_dataset(tmp_path)
    save(tmp_path / "a" / "1.png")
    with pytest.raises(MirstError, match="one class only"):
        read_dataset(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(MirstError, match="contains no images"):
        read_dataset(tmp_path)


def test_positive_class():
    assert positive_class(["benign", "malignant"]) == "malignant"
    assert positive_class(["Benign", "MALIGNANT"]) == "MALIGNANT"
    assert positive_class(["a", "b"], "a") == "a"
    with pytest.raises(MirstError, match=r"data\.positive"):
        positive_class(["a", "b"])
    with pytest.raises(MirstError, match="not a class"):
        positive_class(["benign", "malignant"], "cancer")


def test_real_busi_and_busbra(real_data):
    """Counts from the data's own description."""
    labels = Counter(r.label for r in read_dataset(real_data / "busi"))
    assert labels == {"benign": 437, "malignant": 210, "normal": 133}
    busbra = read_dataset(real_data / "busbra")
    assert len(busbra) == 1492
    cases = {r.group: set() for r in busbra}
    for r in busbra:
        cases[r.group].add(r.label)
    assert all(len(labels) == 1 for labels in cases.values())
    assert np.mean([r.path.exists() for r in busbra]) == 1
