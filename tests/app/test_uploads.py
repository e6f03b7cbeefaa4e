"""Every upload is read once or refused in a sentence, and is gone afterwards."""

import gc

import numpy as np
import pytest
from PIL import Image

from mirst.app import uploads
from mirst.app.uploads import take
from mirst.data import ImageFile, decode
from mirst.data.dicom import forget
from mirst.errors import MirstError


def picture(path, size=(40, 30), **options):
    Image.fromarray(np.full(size, 100, dtype=np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "a.jpeg", "..%2f..%2fetc%2fpasswd.png", "‮gnp.png"])
def test_pictures_are_read_and_gone(tmp_path, name):
    path = picture(tmp_path / name)
    image = take(path)
    assert (image.size, image.mode) == ((30, 40), "RGB")
    assert not path.exists()


def test_large_pictures_are_reduced(tmp_path):
    assert max(take(picture(tmp_path / "a.png", (300, 5000))).size) == 2048


def dicom(path, frames, shape=(8, 9)):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UltrasoundMultiFrameImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.SOPClassUID = pydicom.uid.UltrasoundMultiFrameImageStorage
    dataset.Rows, dataset.Columns = shape
    dataset.SamplesPerPixel, dataset.NumberOfFrames = 1, frames
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = np.resize(np.arange(72, dtype=np.uint8), (frames, *shape)).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_image_is_read_and_a_volume_refused(tmp_path):
    assert take(dicom(tmp_path / "one.dcm", 1)).size == (9, 8)
    with pytest.raises(MirstError, match="the file contains 4 frames"):
        take(dicom(tmp_path / "volume.dcm", 4))


def datasets_in_memory():
    pydicom = pytest.importorskip("pydicom")
    gc.collect()
    return sum(type(one) is pydicom.FileDataset for one in gc.get_objects())


def test_a_dicom_file_is_forgotten(tmp_path):
    forget()
    before = datasets_in_memory()
    path = dicom(tmp_path / "kept.dcm", 1)
    decode(ImageFile(path))
    assert datasets_in_memory() == before + 1
    forget()
    take(path)
    assert datasets_in_memory() == before


def deflated(path):
    """A file of a few kilobytes whose header alone would fill the memory."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(dicom(path, 1))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)


def claimed(path):
    """Declares far more pixels than it holds."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(dicom(path, 1))
    dataset.Rows = dataset.Columns = 20_000
    dataset.save_as(path, enforce_file_format=True)


def test_dicom_bombs_are_refused_by_their_headers(tmp_path):
    deflated(tmp_path / "deflated.dcm")
    with pytest.raises(MirstError, match="it is deflated"):
        take(tmp_path / "deflated.dcm")
    claimed(tmp_path / "claimed.dcm")
    with pytest.raises(MirstError, match="the file is 20000 x 20000; images with sides of at most 8192"):
        take(tmp_path / "claimed.dcm")


def truncated(path):
    picture(path, (200, 200))
    path.write_bytes(path.read_bytes()[:100])


def bomb(path):
    """16,000 x 16,000 pixels in a quarter of a megabyte."""
    Image.new("1", (16_000, 16_000)).save(path)


def strip(path):
    """Whose square, for the letterbox, is large."""
    Image.new("1", (9_000, 2)).save(path)


BAD = {
    "text.png": lambda path: path.write_text("no picture"),
    "empty.png": lambda path: path.touch(),
    "cut.png": truncated,
    "bomb.png": bomb,
    "strip.png": strip,
    "page.html": lambda path: path.write_text("<script>alert(1)</script>"),
    "array.npy": lambda path: np.save(path, np.zeros((2, 1, 4, 4), dtype=np.uint8)),
    "volume.nii": lambda path: path.write_bytes(bytes(400)),
    "cut.dcm": lambda path: path.write_bytes(bytes(128) + b"DICM" + bytes(5)),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_gets_a_sentence_without_a_path(tmp_path, name):
    path = tmp_path / name
    BAD[name](path)
    with pytest.raises(MirstError) as refused:
        take(path)
    assert str(tmp_path) not in str(refused.value)
    assert not path.exists()


def test_too_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_BYTES", 100)
    with pytest.raises(MirstError, match="larger than"):
        take(picture(tmp_path / "a.png", (100, 100)))
