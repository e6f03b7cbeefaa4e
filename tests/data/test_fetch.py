"""Against a server on this machine that can cut connections, lie and be missing."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import mirst.data.fetch
from mirst.data import read_dataset
from mirst.data.fetch import Source, fetch
from mirst.errors import MirstError
from tests.server import serving


def busi_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for label in ("benign", "malignant"):
            for name in ("1", "1_mask", "2"):
                picture = io.BytesIO()
                Image.fromarray(np.random.default_rng(0).integers(0, 255, (199, 199), dtype=np.uint8)).save(
                    picture, "png"
                )
                archive.writestr(f"Dataset_BUSI_with_GT/{label}/{label} ({name[0]}){name[1:]}.png", picture.getvalue())
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    with serving(busi_zip()) as server:
        publish(monkeypatch, f"{server.url}/Dataset_BUSI.zip", None)
        yield server


def publish(monkeypatch, url, checksum):
    source = Source(url=url, licence="test", citation="test", checksum=checksum)
    monkeypatch.setitem(mirst.data.fetch.SOURCES, "busi", source)


def md5(content):
    return f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


def test_a_data_set_is_fetched_unpacked_and_read(server, tmp_path):
    seen = []
    path = fetch("busi", tmp_path / "data", lambda there, total: seen.append((there, total)))
    assert len(read_dataset(path)) == 4
    assert seen[-1] == (len(server.content), len(server.content))
    assert fetch("busi", tmp_path / "data") == path
    assert fetch("busi", tmp_path / "elsewhere") != path
    assert server.requests == [None]


def test_a_cut_connection_is_one_sentence_and_the_next_try_goes_on(server, tmp_path):
    server.cut = 50_000
    for _ in range(2):
        with pytest.raises(MirstError, match="cannot reach"):
            fetch("busi", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    server.cut = None
    assert len(read_dataset(fetch("busi", tmp_path / "data"))) == 4
    first, *later = server.requests
    assert first is None
    offsets = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in later]
    assert 0 < offsets[0] <= 50_000 < offsets[1] <= 100_000


def test_a_wrong_checksum_leaves_nothing(server, tmp_path, monkeypatch):
    publish(monkeypatch, f"{server.url}/Dataset_BUSI.zip", md5(b"something else"))
    with pytest.raises(MirstError, match="does not have the checksum"):
        fetch("busi", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    publish(monkeypatch, f"{server.url}/Dataset_BUSI.zip", md5(server.content))
    assert fetch("busi", tmp_path / "data").is_dir()


def test_without_a_published_checksum_the_first_fetch_is_the_measure(server, tmp_path):
    fetch("busi", tmp_path / "data")
    archive = tmp_path / "cache" / "downloads" / "busi" / "Dataset_BUSI.zip"
    archive.unlink()
    server.content += b"changed"
    with pytest.raises(MirstError, match="does not have the checksum sha256:"):
        fetch("busi", tmp_path / "again")


def test_offline_and_moved_are_one_sentence(server, tmp_path, monkeypatch):
    publish(monkeypatch, f"{server.url}/missing.zip", None)
    with pytest.raises(MirstError, match=r"404 .*may have moved"):
        fetch("busi", tmp_path / "data")
    publish(monkeypatch, "http://127.0.0.1:9/Dataset_BUSI.zip", None)
    with pytest.raises(MirstError, match=r"cannot reach .* check the network"):
        fetch("busi", tmp_path / "data")
    with pytest.raises(MirstError, match="unknown data set mnist"):
        fetch("mnist", tmp_path / "data")
