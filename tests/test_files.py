import pytest

from mirst.errors import MirstError
from mirst.files import atomic, write_text


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
