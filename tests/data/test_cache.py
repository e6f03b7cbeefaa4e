import pickle
import shutil

import numpy as np
import pytest

import mirst.data.cache
from mirst.data import ImageFile, load_images, prepare_images, read_dataset
from mirst.errors import MirstError


@pytest.fixture
def files(phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    shutil.copytree(phantoms, tmp_path / "data")
    return [record.file for record in read_dataset(tmp_path / "data")]


def test_the_cache_holds_what_decoding_gives(files):
    prepared = prepare_images(files, 32)
    assert isinstance(prepared.pixels, np.memmap)
    assert np.array_equal(prepared.pixels, load_images(files, 32))
    assert prepare_images(files, 32, channels=3).pixels.shape == (24, 3, 32, 32)


def test_the_second_start_decodes_nothing(files, monkeypatch):
    first = prepare_images(files, 32)
    monkeypatch.setattr(mirst.data.cache, "load_image", None)
    assert prepare_images(files, 32).folder == first.folder
    moved = [ImageFile(file.path.rename(file.path.with_stem(f"x{n}")), None) for n, file in enumerate(files)]
    assert prepare_images(moved, 32).folder == first.folder


def test_content_and_settings_are_the_key(files):
    folders = {prepare_images(files, 32).folder, prepare_images(files, 48).folder, prepare_images(files[:5], 32).folder}
    shutil.copy(files[1].path, files[0].path)
    folders.add(prepare_images(files, 32).folder)
    assert len(folders) == 4


def test_it_travels_as_a_path(files):
    prepared = prepare_images(files, 32)
    _ = prepared.pixels
    packed = pickle.dumps(prepared)
    assert len(packed) < 1000
    assert np.array_equal(pickle.loads(packed).pixels, prepared.pixels)  # noqa: S301 (our own bytes)


def test_a_broken_image_leaves_nothing_behind(files, tmp_path):
    files[3].path.write_bytes(b"broken")
    with pytest.raises(MirstError, match=files[3].path.name):
        prepare_images(files, 32)
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []


def test_a_cache_that_cannot_be_written_gets_a_sentence(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "file"))
    with pytest.raises(MirstError, match="set MIRST_CACHE"):
        prepare_images(files, 32)
