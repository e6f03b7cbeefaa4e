"""Arrays, tables, archives, DICOM files and folders made to hang, to fill the memory or to be taken for another."""

import csv
import io
import os

import numpy as np
import pytest
from PIL import Image

from mirst.data import audit_records, decode, read_dataset, relabel, write_prepared
from mirst.errors import MirstError


def header(shape, kind="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2**40, 1, 2**10, 2**10), "|u1"), ((2, 1, 8, 8), "|O"), ((2, 1, 0, 2**40), "|u1"), ((2, 1, -8, 8), "|u1")],
)
def test_a_prepared_folder_is_no_larger_than_its_file(tmp_path, shape, kind):
    (tmp_path / "records.csv").write_text("name,label,group,source,scanner\na,b,,s,\nc,d,,s,\n")
    (tmp_path / "pixels.npy").write_bytes(header(shape, kind) + b"\0" * 128)
    records = read_dataset(tmp_path)
    assert len(records) == 2
    for record in records:
        with pytest.raises(MirstError, match="prepare it again"):
            decode(record.file)


@pytest.fixture
def folder(tmp_path):
    """A sound class folder with what is no image in it."""
    for label in ("benign", "malignant"):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("L", (20, 20), len(label)).save(tmp_path / "set" / label / "sound.png")
    return tmp_path / "set"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_folder_of_pipes_devices_and_loops_does_not_hang(folder):
    for place in (folder, folder / "benign"):
        for suffix in (".csv", ".xlsx", ".png", ".dcm", ""):
            os.mkfifo(place / f"pipe{suffix}")
            (place / f"zero{suffix}").symlink_to("/dev/zero")
    (folder / "benign" / "folder.png").mkdir()
    (folder / "benign" / "loop.png").symlink_to("loop.png")
    (folder / "benign" / "above").symlink_to(folder)
    assert [record.name for record in read_dataset(folder)] == ["benign/sound.png", "malignant/sound.png"]
    with (folder / "cases.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("CaseID", "Image_filename", "Classification"), (1, "pipe.png", "benign")])
    with pytest.raises(MirstError, match=r"lists pipe\.png, which is not below"):
        read_dataset(folder)


def test_a_folder_that_may_not_be_read_gets_a_sentence(folder, monkeypatch):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (folder / "benign").chmod(0)
    with pytest.raises(MirstError, match=r"cannot read .*benign"):
        read_dataset(folder)


NAMES = [
    "=cmd|' /C calc'!A0.png",
    "+1+1.png",
    "-x.png",
    "@x.png",
    "a;=1.png",
    "\x1b[2J.png",
    "line\nbreak.png",
    "\udcff.png",
]
CALLED = [
    "=cmd|' /C calc'!A0.png",
    "+1+1.png",
    "-x.png",
    "@x.png",
    "a;=1.png",
    r"\x1b[2J.png",
    r"line\nbreak.png",
    r"\udcff.png",
]


@pytest.fixture
def odd(tmp_path):
    """A manifest whose images, groups and sources are called as an attacker would."""
    rows = [("path", "label", "group", "source")]
    for number, name in enumerate(NAMES[:5]):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40), dtype=np.uint8)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
        rows.append((name, "ab"[number % 2], f"={number}", "@source"))
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "list.csv"


def test_names_are_kept_for_what_joins_by_them(odd, tmp_path):
    records = read_dataset(odd)
    assert sorted(record.name for record in records) == sorted(NAMES[:5])
    assert {record.group for record in records} == {f"={number}" for number in range(5)}
    changed = relabel(records, {"=cmd|' /C calc'!A0.png": "b", "@source/-x.png": None}, ("a", "b"))
    assert [record.label for record in changed if record.name.startswith("=cmd")] == ["b"]
    assert len(changed) == 4
    folder = write_prepared(records, tmp_path / "prepared", 32)
    assert "'=cmd|" in (folder / "records.csv").read_text()
    again = read_dataset(folder)
    known = ("name", "label", "group", "source")
    assert [[getattr(r, k) for k in known] for r in again] == [[getattr(r, k) for k in known] for r in records]
    assert audit_records(again).groups == audit_records(records).groups


def test_names_stand_on_one_line_of_utf8(folder):
    for name in NAMES[5:]:
        Image.new("L", (20, 20), 3).save(folder / "benign" / name)
    names = {record.name.removeprefix("benign/") for record in read_dataset(folder) if record.label == "benign"}
    assert names == {*CALLED[5:], "sound.png"}


@pytest.mark.parametrize("label", ["=1+1", "-x", "@x", "+x", "a;=b", "two\nlines", "\x1b[2J", "x" * 201])
def test_a_class_that_no_table_can_hold_is_refused(tmp_path, label):
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    Image.new("L", (20, 20)).save(tmp_path / "b.png")
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), ("a.png", label), ("b.png", "fine")])
    with pytest.raises(MirstError, match=r"has a class named .* give it a name") as caught:
        read_dataset(tmp_path / "list.csv")
    assert str(caught.value).isprintable()
    assert len(read_dataset(tmp_path / "list.csv", labels={label: "renamed", "fine": "fine"})) == 2


def test_two_images_of_one_name_are_refused(tmp_path):
    for name in ("=a.png", "'=a.png"):
        Image.new("L", (20, 20)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("path,label\n=a.png,x\n'=a.png,y\n")
    with pytest.raises(MirstError, match="two images named '=a"):
        read_dataset(tmp_path / "list.csv")
