"""Arrays that declare more than their file can hold, or need unpickling."""

import io
import zipfile

import numpy as np
import pytest

from mirst.data import read_dataset
from mirst.errors import MirstError
from mirst.untrusted import npz_arrays


def header(shape, kind="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def npz(path, images, labels):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for split in ("train", "val", "test"):
            for name, parts in (("images", images), ("labels", labels)):
                with archive.open(f"{split}_{name}.npy", "w") as member:
                    for part in parts:
                        member.write(part)
    return path


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([header((2**40, 0))], [header((2**40, 1), "|S0")], "not numbers"),  # nothing, 2**40 times
        ([header((2**40, 1), "|V0")], [header((2**40, 1), "|V0")], "not numbers"),
        ([header((1,), "|O")], [header((1,), "|O")], "not numbers"),
        (
            [header((3, 2**10, 2**10)), b"\0" * 3 * 2**20],
            [header((3, 1)), b"\0" * 3],
            "at most 1048576 bytes are accepted",
        ),
        (
            [header((2**21, 1, 1)), b"\0" * 2**21],
            [header((2**21, 1)), b"\0" * 2**21],
            "2097152 images; at most 1048576",
        ),
    ],
)
def test_an_npz_is_no_larger_than_it_may_be(tmp_path, monkeypatch, images, labels, words):
    monkeypatch.setattr(npz_arrays, "SMALL", 2**20 if len(images[-1]) == 3 * 2**20 else 2**28)
    with pytest.raises(MirstError, match=words):
        read_dataset(npz(tmp_path / "set.npz", images, labels))
