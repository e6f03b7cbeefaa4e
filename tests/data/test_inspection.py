import shutil

import pytest

import mirst.data.inspection
from mirst.data import read_dataset
from mirst.data.inspection import inspect_images
from mirst.errors import MirstError


@pytest.fixture
def files(phantoms, tmp_path, monkeypatch):
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "cache"))
    shutil.copytree(phantoms, tmp_path / "data")
    shutil.copy(tmp_path / "data" / "benign" / "phantom-001.png", tmp_path / "data" / "benign" / "copy.png")
    return [record.file for record in read_dataset(tmp_path / "data")]


def remembered(tmp_path):
    return sorted((tmp_path / "cache").glob("inspected/*"))


def test_the_second_look_decodes_nothing(files, tmp_path, monkeypatch):
    first = inspect_images(files)
    assert len(first.exact) == len([pair for pair in first.pairs if pair.fine == 1]) == 1
    assert len(remembered(tmp_path)) == 1
    monkeypatch.setattr(mirst.data.inspection, "as_stored", None)
    assert inspect_images(files) == first


def test_other_content_is_looked_at_anew(files, tmp_path):
    inspect_images(files)
    shutil.copy(files[5].path, files[3].path)
    assert len([pair for pair in inspect_images(files).pairs if pair.fine == 1]) == 2
    assert len(remembered(tmp_path)) == 2


def test_with_an_unreadable_or_missing_file_nothing_is_remembered(files, tmp_path):
    files[3].path.write_bytes(b"broken")
    assert list(inspect_images(files).unreadable) == [3]
    files[3].path.unlink()
    assert list(inspect_images(files).unreadable) == [3]
    assert remembered(tmp_path) == []


def test_a_cache_that_cannot_be_written_gets_a_sentence(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "file"))
    with pytest.raises(MirstError, match="set MIRST_CACHE"):
        inspect_images(files)


def test_an_audit_reports_its_progress_and_a_cached_one_has_none(files, tmp_path):
    stages = []
    inspect_images(files, lambda *stage: stages.append(stage))
    by_name = {name: [(done, items) for one, done, items in stages if one == name] for name, _, _ in stages}
    assert list(by_name) == ["reading images", "searching for similar images", "comparing similar images"]
    for steps in by_name.values():
        assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    inspect_images(files, lambda *stage: pytest.fail("nothing is left to do"))
