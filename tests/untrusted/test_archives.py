"""Archives that would write outside their folder, fill the disk, or are damaged."""

import io
import stat
import zipfile

import numpy as np
import pytest
from PIL import Image

from mirst.errors import MirstError
from mirst.untrusted import archives
from mirst.untrusted.archives import unpack


def picture_zip():
    buffer, picture = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (199, 199), dtype=np.uint8)).save(picture, "png")
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("benign (1).png", "benign (2).png"):
            archive.writestr(name, picture.getvalue())
    return buffer.getvalue()


def test_the_files_of_an_archive_are_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(picture_zip())
    unpack(tmp_path / "a.zip", tmp_path / "new" / "target")
    assert sorted(path.name for path in (tmp_path / "new" / "target").iterdir()) == ["benign (1).png", "benign (2).png"]


def test_a_member_that_is_larger_than_its_header_says_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"x" * 1000)
    whole = zipfile.ZipFile.infolist

    def understated(file):
        members = whole(file)
        for member in members:
            member.file_size = 10
        return members

    def opened(file, member):
        return io.BytesIO(b"x" * 1000)

    monkeypatch.setattr(zipfile.ZipFile, "infolist", understated)
    monkeypatch.setattr(zipfile.ZipFile, "open", opened)
    with pytest.raises(MirstError, match="unpacks to more bytes than its headers declare"):
        unpack(tmp_path / "a.zip", tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def member(name, mode=0o644, content=b"x"):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info, content


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside.png")],
        [member("fine.png"), member("deep/../../outside.png")],
        [member("/absolute.png")],
        [member("C:\\outside.png")],
        [member("..\\outside.png")],
        [member("link.png", stat.S_IFLNK | 0o777, b"/etc/passwd")],
    ],
)
def test_no_path_leaves_the_folder(members, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    with pytest.raises(MirstError, match="a path outside the target folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "home" / "target")
    assert {p.name for p in tmp_path.rglob("*")} <= {"evil.zip", "home"}


def test_count_and_size_are_bounded(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 10_000)
        archive.writestr("b.png", b"")
    for name, value in (("MAX_FILES", 1), ("MAX_BYTES", 9_999)):
        with monkeypatch.context() as patch:
            patch.setattr(archives, name, value)
            with pytest.raises(MirstError, match="contains more than"):
                unpack(tmp_path / "bomb.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_damaged_archive_gets_a_sentence(tmp_path):
    (tmp_path / "cut.zip").write_bytes(picture_zip()[:-300])
    flipped = bytearray(picture_zip())
    flipped[2000] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(flipped)
    for name in ("cut.zip", "flipped.zip"):
        with pytest.raises(MirstError, match="not a valid zip file"):
            unpack(tmp_path / name, tmp_path / "target")
        assert not (tmp_path / "target").exists()


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
