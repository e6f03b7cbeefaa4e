"""pydicom's own test files: each becomes a picture or one sentence."""

import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from mirst.data import ImageFile, decode
from mirst.data.dicom import frame_count
from mirst.errors import MirstError
from mirst.untrusted.dicom_streams import frame_size
from tests.data.helpers import RAMP, write_dicom

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("libjpeg") is None, reason="mirst[dicom-jpeg] is not installed"
)
SHIPPED = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    path for path in SHIPPED.rglob("*")
    if path.is_file() and path.read_bytes()[128:132] == b"DICM"
)  # fmt: skip


def shipped(name):
    return SHIPPED / "test_files" / name


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some headers are damaged on purpose
        return pydicom.dcmread(path)


def gray(path, channels=1):
    return np.asarray(decode(ImageFile(path, "0"), channels))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SHIPPED).as_posix())
def test_every_file_is_a_picture_or_one_sentence(path, tmp_path):
    copy = tmp_path / "x.dcm"
    copy.write_bytes(path.read_bytes())
    sentence = ""
    try:
        frames = frame_count(copy)
    except MirstError as error:
        sentence = str(error)
    if sentence:
        assert len(sentence.splitlines()) == 1
        assert str(copy) in sentence
    else:
        dataset = read(copy)
        assert frames == int(dataset.get("NumberOfFrames") or 1)
        assert gray(copy).shape == (dataset.Rows, dataset.Columns)


@pytest.mark.parametrize(("name", "most"), [
    ("CT_small.dcm", 200), ("MR_small.dcm", 200), ("examples_overlay.dcm", 250), ("JPEG2000.dcm", 200),
    ("rtdose_1frame.dcm", 50), ("examples_palette.dcm", 190), ("693_J2KI.dcm", 90),
])  # fmt: skip
def test_gray_levels_are_kept(name, most):
    assert len(np.unique(gray(shipped(name)))) >= most


def test_ct_without_a_window_is_shown_in_its_range():
    dataset = pydicom.dcmread(shipped("CT_small.dcm"))
    values = dataset.pixel_array - 1024.0
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    assert gray(shipped("CT_small.dcm")) == pytest.approx(expected, abs=0.51)


def same_picture(one, other):
    assert np.array_equal(gray(shipped(one), 3), gray(shipped(other), 3))


@pytest.mark.parametrize("name", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "padded"])
def test_one_picture_in_every_encoding(name):
    same_picture("MR_small.dcm", f"MR_small_{name}.dcm")


@needs_extra
@pytest.mark.parametrize(("one", "other"), [
    ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm"),
    ("SC_rgb_rle.dcm", "SC_rgb_rle_32bit.dcm"),
])  # fmt: skip
def test_lossless_compressions_lose_nothing(one, other):
    assert np.abs(gray(shipped(one), 3).astype(int) - gray(shipped(other), 3)).max() <= 1


EXTRA_READS = {
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS Lossless",
    "JPEGLSNearLossless_16.dcm": "JPEG-LS Lossy",
    "SC_rgb_jpeg_gdcm.dcm": "JPEG Lossless",
    "JPGExtended.dcm": "JPEG Extended",
    "GDCMJ2K_TextGBR.dcm": "JPEG 2000",
}


WITHOUT_THE_EXTRA = """
import sys
for name in ("pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls", "gdcm"):
    sys.modules[name] = None
from pathlib import Path
from mirst.data import ImageFile, decode
from mirst.errors import MirstError
for path in sys.argv[1:]:
    try:
        decode(ImageFile(Path(path), "0"))
        print("it was read")
    except MirstError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def sentences():
    """By name, from a process that cannot import the plugins, whether or not they are installed here."""
    command = [sys.executable, "-c", WITHOUT_THE_EXTRA, *map(shipped, EXTRA_READS)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(EXTRA_READS, printed.splitlines(), strict=True))


@pytest.mark.parametrize("name", EXTRA_READS)
def test_without_the_extra_a_sentence_names_it(name, sentences):
    sentence = sentences[name]
    assert EXTRA_READS[name] in sentence
    assert sentence.endswith("pip install 'mirst[dicom-jpeg]' to read it")


@needs_extra
@pytest.mark.parametrize("name", EXTRA_READS)
def test_with_the_extra_it_is_read(name):
    dataset = pydicom.dcmread(shipped(name))
    assert gray(shipped(name)).shape == (dataset.Rows, dataset.Columns)


def test_a_video_gets_a_sentence(tmp_path):
    write_dicom(tmp_path / "x.dcm", RAMP)
    dataset = pydicom.dcmread(tmp_path / "x.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    dataset.PixelData = pydicom.encaps.encapsulate([b"\0" * 100])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(MirstError, match=r"MPEG2.*convert it to an uncompressed"):
        gray(tmp_path / "x.dcm")


@pytest.mark.parametrize(("name", "reason"), [
    ("rtplan.dcm", "without an image; remove it"),
    ("no_meta.dcm", "no DICM prefix"),
    ("image_dfl.dcm", "deflated"),
    ("MR_truncated.dcm", "less than expected"),
])  # fmt: skip
def test_what_is_no_image_gets_its_own_sentence(name, reason):
    with pytest.raises(MirstError, match=reason):
        gray(shipped(name))


def is_encapsulated(path):
    syntax = pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID")
    return syntax is not None and syntax.is_encapsulated and "PixelData" in read(path)


COMPRESSED = [path for path in FILES if is_encapsulated(path)]


@pytest.mark.parametrize("path", COMPRESSED, ids=lambda path: path.name)
def test_the_size_of_a_compressed_frame_is_read_from_its_header(path):
    dataset = read(path)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)))
    if path.name == "JPEG2000-embedded-sequence-delimiter.dcm":
        return  # damaged on purpose
    is_rle = dataset.file_meta.TransferSyntaxUID == pydicom.uid.RLELossless
    assert frame_size(frame) == (None if is_rle else (dataset.Columns, dataset.Rows, dataset.SamplesPerPixel))


@pytest.mark.parametrize(
    "name", ["MR_small_jp2klossless.dcm", "SC_rgb_jpeg_dcmtk.dcm", "MR_small_jpeg_ls_lossless.dcm"]
)
def test_a_frame_larger_than_the_header_is_refused_before_it_is_decoded(name, tmp_path):
    dataset = pydicom.dcmread(shipped(name))
    dataset.Rows = dataset.Rows // 2
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(MirstError, match=r"a compressed frame has \(\d+, \d+, \d\), but the file declares"):
        gray(tmp_path / "x.dcm")


@pytest.mark.parametrize(
    "frame", [b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\xff", b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x51\0\0"]
)
def test_a_frame_cut_in_its_header_is_refused(frame):
    with pytest.raises(ValueError, match="no complete header"):
        frame_size(frame)


def test_unused_low_bits_of_run_lengths_are_dropped(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (8, 12)).astype(np.uint16)
    deep[0, :2] = 0, 4095
    write_dicom(tmp_path / "x.dcm", deep << 4, bits=16)
    dataset = read(tmp_path / "x.dcm")
    dataset.compress(pydicom.uid.RLELossless)
    dataset.BitsStored = 12
    dataset.save_as(tmp_path / "x.dcm")
    assert gray(tmp_path / "x.dcm") == pytest.approx(deep / 4095 * 255, abs=0.51)


def test_a_codestream_with_another_highest_bit_is_refused(tmp_path):
    dataset = read(shipped("693_J2KI.dcm"))
    assert (dataset.BitsStored, dataset.HighBit) == (14, 13)
    dataset.HighBit = 15
    dataset.save_as(tmp_path / "x.dcm")
    with pytest.raises(MirstError, match="HighBit is 15, where 14 of 16 bits are stored; HighBit must be 13"):
        gray(tmp_path / "x.dcm")
