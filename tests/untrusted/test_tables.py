"""Tables that declare, or unpack to, more than they may."""

import re
import sys
import zipfile

import openpyxl
import pytest

from mirst.data.readers.table import read_table
from mirst.errors import MirstError
from mirst.untrusted import tables


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
    monkeypatch.setattr(tables, "MAX_BYTES", 10)
    with pytest.raises(MirstError, match="not a file of at most 10 bytes"):
        read_table(tmp_path / "wide.csv", ("path",))


def test_a_spreadsheet_without_openpyxl_gets_the_extra(tmp_path, monkeypatch):
    file = sheet(tmp_path / "t.xlsx", lambda xml: xml)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MirstError, match=r"cannot read the table .*pip install 'mirst\[xlsx\]', or save it as CSV"):
        read_table(file, [])
