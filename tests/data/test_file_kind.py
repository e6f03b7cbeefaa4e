"""Files of every kind under names that say nothing, or something else."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from mirst.data import ImageFile, audit_records, decode, read_dataset
from mirst.data.file_kind import HEAD, SUFFIXES, Kind, file_kind, is_image
from mirst.errors import MirstError
from tests.data.helpers import RAMP, write_dicom

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
FORMATS = {
    "PNG": {},
    "JPEG": {},
    "BMP": {},
    "TIFF": {},
    "GIF": {},
    "WEBP": {"lossless": True},
    "PPM": {},
}
NAMES = (
    "x",
    "x.dat",
    "x.png",
    "X.JPE",
    "x.jfif",
    "x.dcm",
    "x.pgm",
    "x.webp",
    "1.2.840.10008.1",
    "x.IMA",
    "x.txt",
    "x.npz",
)
GRAY = np.arange(96, dtype=np.uint8).reshape(8, 12) * 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_is_one_under_any_name(tmp_path, kind, name):
    Image.fromarray(GRAY).save(tmp_path / name, kind, **FORMATS[kind])
    assert file_kind(tmp_path / name) is Kind.PICTURE
    read = np.asarray(decode(ImageFile(tmp_path / name)))
    assert np.abs(read.astype(int) - GRAY).max() <= (0 if kind != "JPEG" else 8)


@pytest.mark.parametrize("name", NAMES)
def test_a_dicom_file_is_one_under_any_name(tmp_path, name):
    write_dicom(tmp_path / name, RAMP)
    assert file_kind(tmp_path / name) is Kind.DICOM
    assert np.array_equal(decode(ImageFile(tmp_path / name)), RAMP)


@pytest.mark.parametrize(
    "content",
    [
        b"P2\n# a comment\n# another\n2 1\n255\n0 9\n",
        b"P5 2 1 255 \0\x09",
        b"P1\n2 1\n1 0\n",
        b"P4 2 1 \x80",
        b"P3 1 1 255 1 2 3",
    ],
)
def test_portable_maps_in_text_and_binary(tmp_path, content):
    (tmp_path / "map").write_bytes(content)
    assert file_kind(tmp_path / "map") is Kind.PICTURE
    assert decode(ImageFile(tmp_path / "map")).size[1] == 1


def test_a_dicom_file_may_begin_as_a_tiff(tmp_path):
    """Whole-slide images are stored as both."""
    write_dicom(tmp_path / "dual", RAMP)
    content = (tmp_path / "dual").read_bytes()
    (tmp_path / "dual").write_bytes(b"II*\0" + content[4:])
    assert file_kind(tmp_path / "dual") is Kind.DICOM


TEXTS = [
    b"",
    b"BM I of the patients",
    b"P1 is the first patient",
    b"P5",
    b"GIF of the day",
    b"RIFF0000WAVE",
    b"%PDF-1.7",
]


@pytest.mark.parametrize("content", TEXTS)
def test_text_is_no_image_unless_its_suffix_claims_so(tmp_path, content):
    for name, expected in (("notes", False), ("notes.txt", False), ("notes.csv", False), ("notes.PNG", True)):
        (tmp_path / name).write_bytes(content)
        assert is_image(tmp_path / name) is expected
    with pytest.raises(MirstError, match=r"notes\.PNG"):
        decode(ImageFile(tmp_path / "notes.PNG"))


def test_archives_and_lists_of_dicom_files_are_no_images(tmp_path):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as archive:
        archive.writestr("a", "b")
    (tmp_path / "DICOMDIR").write_bytes(Path(get_testdata_file("DICOMDIR")).read_bytes())
    for name in ("book.xlsx", "DICOMDIR", "missing", "."):
        assert file_kind(tmp_path / name) is Kind.OTHER
        assert not is_image(tmp_path / name)


def test_at_most_the_head_of_a_file_is_read(tmp_path):
    """A terabyte of nothing takes no space on disk, but would not fit into memory."""
    for name in ("large", "large.png"):
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 2**40)
    assert not is_image(tmp_path / "large")
    assert is_image(tmp_path / "large.png")
    assert HEAD <= 4096


@pytest.fixture
def folder(tmp_path):
    for label, level in (("benign", 40), ("malignant", 90)):
        (tmp_path / label).mkdir()
        Image.new("L", (40, 40), level).save(tmp_path / label / "sound.png")
    return tmp_path


def test_every_suffix_in_a_class_folder(folder):
    buffers = {}
    for kind in FORMATS:
        buffer = io.BytesIO()
        Image.new("L", (40, 40), 7).save(buffer, kind)
        buffers[kind] = buffer.getvalue()
    names = {f"{number}{suffix}" for number, suffix in enumerate(SUFFIXES[Kind.PICTURE])}
    names |= {name.upper() for name in names} | {"plain", "1.2.3", "x.scan"}
    for name, content in zip(sorted(names), list(buffers.values()) * 6, strict=False):
        (folder / "benign" / name).write_bytes(content)
    records = [record for record in read_dataset(folder) if record.label == "benign"]
    assert {record.path.name for record in records} == names | {"sound.png"}
    assert all(decode(record.file).size == (40, 40) for record in records)


def test_a_git_lfs_pointer_gives_an_error_with_the_fix(folder):
    (folder / "benign" / "image.png").write_bytes(POINTER)
    found = audit_records(read_dataset(folder))
    assert list(found.found.unreadable.values()) == [
        f"{folder / 'benign' / 'image.png'} is a Git LFS pointer, not the file; run git lfs pull to get it"
    ]
    for name in ("list.csv", "set.npz"):
        (folder / name).write_bytes(POINTER)
        with pytest.raises(MirstError, match="run git lfs pull"):
            read_dataset(folder / name)
