import pytest

from mirst.errors import MirstError
from mirst.files import atomic, new_folder, write_text


def half_written(path):
    with atomic(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError


def test_a_block_that_fails_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError):
        half_written(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_path_below_a_file_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MirstError, match="cannot write"):
        write_text(tmp_path / "file" / "folder" / "a.txt", "text")


def half_filled(path):
    with new_folder(path) as partial:
        (partial / "a.txt").write_text("half")
        raise ZeroDivisionError


def test_a_new_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / "new" / "folder"
    with pytest.raises(ZeroDivisionError):
        half_filled(path)
    assert list(path.parent.iterdir()) == []
    with new_folder(path) as partial:
        (partial / "a.txt").write_text("whole")
    assert [file.read_text() for file in path.iterdir()] == ["whole"]
    with pytest.raises(MirstError, match="exists; name a new folder"):
        half_filled(path)
    with pytest.raises(MirstError, match="cannot write"):
        half_filled(path / "a.txt" / "folder")
