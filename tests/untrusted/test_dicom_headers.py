"""DICOM files that declare more than they may are refused before anything is decoded."""

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from mirst.data import ImageFile, decode
from mirst.errors import MirstError
from tests.data.helpers import RAMP, write_dicom


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
        ("deflated", "is deflated"),
        ("empty", "Rows"),
        ("deep", "recursion"),
    ):
        with pytest.raises(MirstError, match=words):
            decode(ImageFile(tmp_path / f"{name}.dcm", "0"))
