"""Arrays, tables, archives, DICOM files and folders made to hang, to fill the memory or to be taken for another."""

import csv
import io
import os
import re
import zipfile

import numpy as np
import openpyxl
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

import mirst.data.npz
import mirst.data.readers.table
from mirst.data import ImageFile, audit_records, decode, read_dataset, relabel, write_prepared
from mirst.data.fetch import unpack
from mirst.data.readers.table import read_table
from mirst.errors import MirstError
from tests.data.helpers import RAMP, write_dicom


def header(shape, kind="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npz(path, images, labels):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in ("train", "val", "test"):
            for name, parts in (("images", images), ("labels", labels)):
                with archive.open(f"{split}_{name}.npy", "w") as member:
                    for part in parts:
                        member.write(part)
    return path


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([header((2**40, 0))], [header((2**40, 1), "|S0")], "no numbers"),  # nothing, 2**40 times
        ([header((2**40, 1), "|V0")], [header((2**40, 1), "|V0")], "no numbers"),
        ([header((1,), "|O")], [header((1,), "|O")], "no numbers"),
        ([header((3, 2**10, 2**10)), b"\0" * 3 * 2**20], [header((3, 1)), b"\0" * 3], "at most 1048576 are read of it"),
        (
            [header((2**21, 1, 1)), b"\0" * 2**21],
            [header((2**21, 1)), b"\0" * 2**21],
            "2097152 images; at most 1048576",
        ),
    ],
)
def test_an_npz_is_no_larger_than_it_may_be(tmp_path, monkeypatch, images, labels, words):
    monkeypatch.setattr(mirst.data.npz, "SMALL", 2**20 if len(images[-1]) == 3 * 2**20 else 2**28)
    with pytest.raises(MirstError, match=words):
        read_dataset(npz(tmp_path / "set.npz", images, labels))


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


def runs(rows, columns, frames, path):
    """An RLE file of nothing but zeros."""
    frame = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\x81\0" * (rows * columns // 128)
    write_dicom(path, RAMP, Rows=rows, Columns=columns, NumberOfFrames=frames)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = RLELossless
    dataset.PixelData = encapsulate([frame] * frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)


def test_dicom_files_are_bounded_before_they_are_decoded(tmp_path):
    runs(20_000, 20_000, 1, tmp_path / "large.dcm")
    runs(1_024, 1_024, 300, tmp_path / "long.dcm")
    write_dicom(tmp_path / "deflated.dcm", RAMP)
    dataset = pydicom.dcmread(tmp_path / "deflated.dcm")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "deflated.dcm")
    write_dicom(tmp_path / "empty.dcm", RAMP, Rows=0, NumberOfFrames=2**31 - 1)
    write_dicom(tmp_path / "deep.dcm", RAMP)
    whole = (tmp_path / "deep.dcm").read_bytes()
    sequence = b"\x08\0\x15\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\0\xe0" + b"\xff" * 4
    at = whole.index(b"\x28\0\x02\0US")
    (tmp_path / "deep.dcm").write_bytes(whole[:at] + sequence * 3000 + whole[at:])
    for name, words in (
        ("large", "declares 1 frames of 20000 x 20000"),
        ("long", "314572800 values; at most"),
        ("deflated", "stored deflated"),
        ("empty", "Rows"),
        ("deep", "recursion"),
    ):
        with pytest.raises(MirstError, match=words):
            decode(ImageFile(tmp_path / f"{name}.dcm", "0"))


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


def sheet(path, change):
    """A spreadsheet whose sheet is changed."""
    book = openpyxl.Workbook()
    for row in (("CaseID", "Image_filename", "Classification"), (1, "b.png", "x")):
        book.active.append(row)
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith("sheet1.xml") else content)
    return path


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "%s">%s]>' % (
    b"x" * 1000,
    b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(8)),
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda xml: re.sub(rb"<dimension[^>]*>", b"", xml.replace(b'<row r="2"', b'<row r="999999999999"')), "cells"),
        (lambda xml: xml + b" " * 2**26, "unpacks to more than"),
        (lambda xml: LAUGHS + xml.replace(b"<sheetData>", b"<sheetData>&i;"), "amplification"),
    ],
)
def test_a_spreadsheet_is_bounded(tmp_path, change, words):
    with pytest.raises(MirstError, match=words):
        read_table(sheet(tmp_path / "t.xlsx", change), ("CaseID",))


def test_a_spreadsheet_that_declares_all_columns_is_read(tmp_path):
    path = sheet(tmp_path / "t.xlsx", lambda xml: xml.replace(b"A1:C2", b"A1:XFD1048576"))
    assert read_table(path, ("CaseID",)) == [{"CaseID": "1", "Image_filename": "b.png", "Classification": "x"}]


def test_a_csv_is_bounded(tmp_path, monkeypatch):
    columns = ",".join(["path", "label", *(f"c{i}" for i in range(2000))])
    (tmp_path / "wide.csv").write_text(f"{columns}\n" + "x\n" * 2000)
    (tmp_path / "field.csv").write_text('path,label\n"' + "x" * 200_000)
    for name, words in (("wide", "more than 2000000 cells"), ("field", "field larger than")):
        with pytest.raises(MirstError, match=words):
            read_table(tmp_path / f"{name}.csv", ("path",))
    monkeypatch.setattr(mirst.data.readers.table, "MAX_BYTES", 10)
    with pytest.raises(MirstError, match="no file of at most 10 bytes"):
        read_table(tmp_path / "wide.csv", ("path",))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/" * 900 + "x.png"], "more than 32 deep"),
        (["a", "a/b"], "cannot unpack"),
        (["x" * 5000], "cannot unpack"),
    ],
)
def test_archives_that_no_folder_can_hold_leave_nothing(tmp_path, names, words):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(MirstError, match=words):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


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
    with pytest.raises(MirstError, match=r"has a class called .* give it a name") as caught:
        read_dataset(tmp_path / "list.csv")
    assert str(caught.value).isprintable()
    assert len(read_dataset(tmp_path / "list.csv", labels={label: "renamed", "fine": "fine"})) == 2


def test_two_images_of_one_name_are_refused(tmp_path):
    for name in ("=a.png", "'=a.png"):
        Image.new("L", (20, 20)).save(tmp_path / name)
    (tmp_path / "list.csv").write_text("path,label\n=a.png,x\n'=a.png,y\n")
    with pytest.raises(MirstError, match="two images called '=a"):
        read_dataset(tmp_path / "list.csv")
