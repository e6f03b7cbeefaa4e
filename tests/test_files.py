import csv
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirst.errors import MirstError, plain
from mirst.files import as_named, atomic, harmless, new_folder, write_csv, write_text


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
    with pytest.raises(MirstError, match="exists; give a new folder"):
        half_filled(path)
    with pytest.raises(MirstError, match="cannot write"):
        half_filled(path / "a.txt" / "folder")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+a", "'+a"),
        ("-a", "'-a"),
        ("@a", "'@a"),
        ("＝1+1", "'＝1+1"),
        ("a;=1", "a;'=1"),
        ("a\n=1", "a\n'=1"),
        ("\ta", "'\ta"),
        ("-1+1", "'-1+1"),
        ("=", "'="),
        ("-1.5e-3", "-1.5e-3"),
        ("-inf", "-inf"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_no_text_that_is_written_is_a_formula(tmp_path, text, written):
    assert harmless(text) == written
    assert as_named(written) == text
    table = pd.DataFrame(
        {text or "x": [text, None], "number": [-0.5, 1 / 3], "mixed": [1, None], "texts": ["-0.5", "x"]}
    )
    before = table.copy()
    write_csv(tmp_path / "a.csv", table)
    assert table.equals(before)
    with (tmp_path / "a.csv").open(newline="") as file:
        head, first, second = csv.reader(file)
    assert head == [harmless(text or "x"), "number", "mixed", "texts"]
    assert first == [written, "-0.5", "1.0", "-0.5"]
    assert second == ["", str(1 / 3), "", "x"]


@given(st.text(st.sampled_from("=+-@;\t\r\n'a1＝,"), max_size=8))
def test_a_second_time_changes_nothing(text):
    once = harmless(text)
    assert harmless(once) == once
    assert not re.search("(?:^|[;\t\r\n])[=+@-]", once) or float(once) is not None
    assert as_named(once) == as_named(text)
    assert harmless("\ra") == "'\ra"


def test_control_characters_are_escaped_on_a_terminal():
    assert str(MirstError("a\x1b[2Jb\udcff\u202e\nc")) == r"a\x1b[2Jb\udcff\u202e c"
    assert plain("é 漢 \u200d") == "é 漢 \u200d"
