"""What is shown of a DICOM file, against slow transcriptions of the standard and pydicom's own functions."""

import math

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

from mirst.data import ImageFile, decode
from mirst.data.images import intensity
from mirst.errors import MirstError
from tests.data.helpers import RAMP, write_dicom

DEEP = (np.random.default_rng(0).integers(0, 4096, (8, 12))).astype(np.uint16)
DEEP[0, :2] = 0, 4095


def shown(path, frame="0", channels=1):
    return np.asarray(decode(ImageFile(path, frame), channels)).astype(float)


def item(**elements):
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def linear(x, c, w):
    """PS3.3, C.11.2.1.2.1, with y from 0 to 1."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 1
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x, c, w):
    """C.11.2.1.3.2."""
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 1
    return (x - c) / w + 0.5


def sigmoid(x, c, w):
    """C.11.2.1.3.1."""
    return 1 / (1 + math.exp(min(-4 * (x - c) / w, 700)))


FUNCTIONS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


@pytest.mark.parametrize("place", ["top", "shared", "frame"])
@pytest.mark.parametrize(("centre", "width"), [(2000, 3000), (1024.5, 1), (500, 2), (3000, 10000)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_windows(tmp_path, function, centre, width, place):
    window = {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function}
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1000, "RescaleType": "US"}
    if place == "top":
        fields = window | rescale
    else:
        group = item(FrameVOILUTSequence=[item(**window)], PixelValueTransformationSequence=[item(**rescale)])
        other = item(FrameVOILUTSequence=[item(WindowCenter=0, WindowWidth=1)])
        fields = {"shared": {"SharedFunctionalGroupsSequence": [group]}}.get(
            place, {"PerFrameFunctionalGroupsSequence": [other, group], "SharedFunctionalGroupsSequence": [other]}
        )
    write_dicom(tmp_path / "x.dcm", np.stack([DEEP // 2, DEEP]), bits=12, **fields)
    expected = np.array([[FUNCTIONS[function](2.0 * v - 1000, centre, width) for v in row] for row in DEEP])
    assert shown(tmp_path / "x.dcm", "1") == pytest.approx(expected * 255, abs=0.5 + 1e-6)
    header = item(**window, **rescale, BitsStored=12, PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2")
    with np.errstate(over="ignore"):
        theirs = apply_windowing(apply_modality_lut(DEEP, header), header)
    assert shown(tmp_path / "x.dcm", "1") == pytest.approx((theirs + 1000) / 8190 * 255, abs=0.5 + 1e-6)
    assert intensity(ImageFile(tmp_path / "x.dcm", "1")).source == "window"


EMPTY = {
    "no window": {},
    "empty window": {"WindowCenter": None, "WindowWidth": None},
    "empty text": {"WindowCenter": "", "WindowWidth": ""},
    "half a window": {"WindowCenter": 100},
    "empty width": {"WindowCenter": 100, "WindowWidth": None},
    "no width": {"WindowCenter": 100, "WindowWidth": 0},
    "no width, exact": {"WindowCenter": 100, "WindowWidth": 0, "VOILUTFunction": "LINEAR_EXACT"},
    "negative width": {"WindowCenter": 100, "WindowWidth": -400},
    "empty table": {"VOILUTSequence": []},
    "empty groups": {"PerFrameFunctionalGroupsSequence": [], "SharedFunctionalGroupsSequence": []},
    "empty group": {"SharedFunctionalGroupsSequence": [item(FrameVOILUTSequence=[])]},
    "empty rescale": {"RescaleSlope": None, "RescaleIntercept": None},
    "empty shape": {"PresentationLUTShape": ""},
    "empty padding": {"PixelPaddingValue": None},
}


@pytest.mark.parametrize("kind", EMPTY)
def test_without_a_usable_window_the_true_range_is_shown(tmp_path, kind):
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, **EMPTY[kind])
    assert shown(tmp_path / "x.dcm") == pytest.approx(DEEP / 4095 * 255, abs=0.51)
    assert intensity(ImageFile(tmp_path / "x.dcm", "0")) == ("", (0, 4095))


def test_an_empty_element_of_a_frame_hides_none_of_the_file(tmp_path):
    group = item(FrameVOILUTSequence=[item(WindowCenter=None, WindowWidth=None)])
    fields = {"WindowCenter": [2000, 40], "WindowWidth": [1000, 80], "PerFrameFunctionalGroupsSequence": [group]}
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, **fields)
    assert intensity(ImageFile(tmp_path / "x.dcm")) == ("window", (1500, 2499))


def test_an_unknown_window_function_gets_a_sentence(tmp_path):
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, WindowCenter=1, WindowWidth=2, VOILUTFunction="CUBIC")
    with pytest.raises(MirstError, match="CUBIC; LINEAR, LINEAR_EXACT and SIGMOID are read"):
        shown(tmp_path / "x.dcm")


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (-1, 100), (0.5, 0), (2, -4000)])
def test_rescaled_values_without_a_window(tmp_path, slope, intercept):
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, RescaleSlope=slope, RescaleIntercept=intercept)
    values = DEEP.astype(float) * slope + intercept
    low, high = (0, 4095) if intercept == 0 else (values.min(), values.max())
    assert shown(tmp_path / "x.dcm") == pytest.approx((values - low) / (high - low) * 255, abs=0.51)


def test_eight_bits_state_their_range(tmp_path):
    write_dicom(tmp_path / "x.dcm", RAMP // 4, RescaleSlope=3, RescaleIntercept=-7)
    assert np.array_equal(shown(tmp_path / "x.dcm"), RAMP // 4)
    assert intensity(ImageFile(tmp_path / "x.dcm")) == ("8 bits", (-7, 758))
    write_dicom(tmp_path / "signed.dcm", RAMP, PixelRepresentation=1)
    assert np.array_equal(shown(tmp_path / "signed.dcm"), RAMP.view(np.int8).astype(float) + 128)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["INVERSE", "IDENTITY", None])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2000, "WindowWidth": 1500}])
def test_one_inversion_however_often_it_is_stated(tmp_path, photometric, shape, window):
    """C.8.11.3.1.2: INVERSE goes with MONOCHROME1."""
    fields = window if shape is None else {"PresentationLUTShape": shape, **window}
    write_dicom(tmp_path / "plain.dcm", DEEP, bits=12, **window)
    write_dicom(tmp_path / "x.dcm", DEEP, photometric=photometric, bits=12, **fields)
    inverted = photometric == "MONOCHROME1" or shape == "INVERSE"
    plain = shown(tmp_path / "plain.dcm")
    assert shown(tmp_path / "x.dcm") == pytest.approx(255 - plain if inverted else plain, abs=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("limit", [None, -1990])
def test_padding_is_black_and_no_part_of_the_range(tmp_path, photometric, signed, limit):
    pixels = DEEP.astype(np.int16)
    pixels[3] = -2000
    pixels[4] = -2000 if limit is None else -1995
    padding = -2000 if signed else -2000 % 2**16
    fields = {"PixelPaddingValue": padding, "PixelRepresentation": signed}
    if limit is not None:
        fields["PixelPaddingRangeLimit"] = limit if signed else limit % 2**16
    write_dicom(tmp_path / "x.dcm", pixels, photometric=photometric, bits=16, **fields)
    expected = DEEP / 4095 * 255
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    expected[3:5] = 0
    assert shown(tmp_path / "x.dcm") == pytest.approx(expected, abs=0.51)
    assert intensity(ImageFile(tmp_path / "x.dcm")).range == (0, 4095)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(("stored", "high"), [
    (12, 11), (12, 12), (12, 13), (12, 15), (8, 8), (8, 15), (10, 15), (10, 12), (15, 15), (1, 15),
])  # fmt: skip
def test_the_stored_bits_end_at_the_highest_one(tmp_path, stored, high, signed):
    """PS3.5, 8.1.1; the unused bits may hold anything."""
    unused = np.random.default_rng(3).integers(0, 2**16, DEEP.shape)
    below, above = (1 << (high + 1 - stored)) - 1, ~((1 << (high + 1)) - 1)
    values = DEEP.astype(int) >> 12 - stored if stored <= 12 else DEEP.astype(int) << stored - 12
    words = (values << (high + 1 - stored)) | (unused & (below | above))
    write_dicom(tmp_path / "x.dcm", (words & 0xFFFF).astype(np.uint16), bits=stored, HighBit=high,
                PixelRepresentation=signed)  # fmt: skip
    half = 2 ** (stored - 1)
    meant = np.where(values >= half, values - 2 * half, values) if signed else values
    low, top = (-half, half - 1) if signed and stored <= 8 else (meant.min(), meant.max())
    if not signed:
        low, top = 0, 2**stored - 1
    assert shown(tmp_path / "x.dcm") == pytest.approx((meant - low) / (top - low) * 255, abs=0.51)


@pytest.mark.parametrize(("stored", "high"), [(12, 7), (12, 0), (12, 16), (8, 6), (8, 31)])
def test_a_highest_bit_that_cannot_be_is_refused(tmp_path, stored, high):
    write_dicom(tmp_path / "x.dcm", DEEP, bits=stored, HighBit=high)
    with pytest.raises(MirstError, match=f"HighBit is {high}, where {stored} of 16 bits are stored; HighBit must be"):
        shown(tmp_path / "x.dcm")


def test_where_all_bits_are_stored_the_highest_one_does_not_matter(tmp_path):
    write_dicom(tmp_path / "x.dcm", RAMP, HighBit=0)
    assert np.array_equal(shown(tmp_path / "x.dcm"), RAMP)


def table(bits, first, entries, words=True):
    data = np.asarray(entries, dtype="<u2" if words else np.uint8).tobytes()
    return item(LUTDescriptor=[len(entries) % 2**16, first, bits], LUTData=data)


CURVE = np.linspace(0, 1, 3000) ** 2


@pytest.mark.parametrize("first", [0, 700])
@pytest.mark.parametrize(("bits", "top", "white"), [
    (8, 255, 255), (10, 1023, 1023), (12, 4095, 4095), (16, 65535, 65535), (16, 40000, 65535),
    (16, 255, 255), (16, 4095, 4095), (8, 4095, 4095),
])  # fmt: skip
def test_tables_of_values_of_interest(tmp_path, bits, top, white, first):
    entries = np.round(CURVE * top).astype(int)
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, VOILUTSequence=[table(bits, first, entries)], WindowCenter=1,
                WindowWidth=1)  # fmt: skip
    expected = [[entries[min(max(int(v) - first, 0), 2999)] for v in row] for row in DEEP]
    assert shown(tmp_path / "x.dcm") == pytest.approx(np.array(expected) / white * 255, abs=0.51)
    assert intensity(ImageFile(tmp_path / "x.dcm")) == ("VOI LUT", (0, white))


def test_a_table_as_pydicom_looks_it_up(tmp_path):
    entries = np.round(CURVE * 65535).astype(int)
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, VOILUTSequence=[table(16, 100, entries)])
    theirs = apply_voi(DEEP, pydicom.dcmread(tmp_path / "x.dcm"))
    assert shown(tmp_path / "x.dcm") == pytest.approx(theirs / 65535 * 255, abs=0.51)


FIRST = {
    "signed": ({"PixelRepresentation": 1}, -1000, 64536),
    "signed, as such": ({"PixelRepresentation": 1}, -1000, -1000),
    "rescaled": ({"RescaleIntercept": -1000, "RescaleSlope": 1}, -1000, 64536),
    "rescaled upside down": ({"RescaleIntercept": 1000, "RescaleSlope": -1}, -3000, 62536),
    "never below 0": ({}, 40000, 40000),
    "rescaled above 0": ({"RescaleIntercept": 36000, "RescaleSlope": 1}, 36000, 36000),
}


def signed_table(first, entries):
    return item_of("SS" if first < 0 else "US", [len(entries), first, 12], np.asarray(entries, "<u2").tobytes())


def item_of(form, descriptor, data):
    made = Dataset()
    made.add_new("LUTDescriptor", form, descriptor)
    made.add_new("LUTData", "OW", data)
    return made


@pytest.mark.parametrize("kind", FIRST)
def test_the_first_value_of_a_table_is_signed_where_values_may_be(tmp_path, kind):
    """C.11.2.1.1. The oracle looks up each value by itself."""
    fields, first, written = FIRST[kind]
    entries = np.round(CURVE * 4095).astype(int)
    pixels = DEEP + 39000 if kind == "never below 0" else DEEP
    pixels = (DEEP.astype(np.int16) - 2000).view(np.uint16) if kind.startswith("signed") else pixels
    slope, intercept = fields.get("RescaleSlope", 1), fields.get("RescaleIntercept", 0)
    meant = (pixels.view(np.int16) if kind.startswith("signed") else pixels).astype(int) * slope + intercept
    bits = 12 if "RescaleSlope" in fields else 16
    write_dicom(tmp_path / "x.dcm", pixels, bits=bits, VOILUTSequence=[signed_table(written, entries)], **fields)
    expected = [[entries[min(max(v - first, 0), 2999)] for v in row] for row in meant.tolist()]
    assert len(np.unique(expected)) > 50
    assert shown(tmp_path / "x.dcm") == pytest.approx(np.array(expected) / 4095 * 255, abs=0.51)


@pytest.mark.parametrize("written", [64536, -1000])
def test_the_first_value_of_a_modality_table_is_signed_as_the_pixels(tmp_path, written):
    entries = np.round(CURVE * 4095).astype(int)
    pixels = DEEP.astype(np.int16) - 2000
    write_dicom(tmp_path / "x.dcm", pixels.view(np.uint16), bits=16, PixelRepresentation=1,
                ModalityLUTSequence=[signed_table(written, entries)])  # fmt: skip
    expected = entries[(pixels.astype(int) + 1000).clip(0, 2999)]
    assert shown(tmp_path / "x.dcm") == pytest.approx(expected / 4095 * 255, abs=0.51)


DAMAGED = {
    "no descriptor": (
        {"VOILUTSequence": [Dataset()]},
        "the LUTDescriptor of its look-up table is missing or does not consist of three",
    ),
    "two numbers": (
        {"VOILUTSequence": [item(LUTDescriptor=[4, 0], LUTData=b"\0" * 8)]},
        "the LUTDescriptor of its look-up table is missing",
    ),
    "no entries": ({"VOILUTSequence": [item(LUTDescriptor=[4, 0, 16])]}, "look-up table is empty"),
    "no modality descriptor": (
        {"ModalityLUTSequence": [Dataset()]},
        "the LUTDescriptor of its look-up table is missing or does not consist of three",
    ),
    "no palette": (
        {"PhotometricInterpretation": "PALETTE COLOR"},
        "the RedPaletteColorLookupTableDescriptor of its look-up table is missing",
    ),
    "two kinds": ({"PhotometricInterpretation": ["MONOCHROME2", "RGB"]}, "several photometric interpretations, MONO"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_elements_are_named(tmp_path, kind):
    fields, words = DAMAGED[kind]
    write_dicom(tmp_path / "x.dcm", RAMP, **fields)
    with pytest.raises(MirstError, match=words):
        shown(tmp_path / "x.dcm")


def test_bytes_in_a_table(tmp_path):
    entries = np.arange(256)[::-1]
    write_dicom(tmp_path / "x.dcm", RAMP, VOILUTSequence=[table(8, 0, entries, words=False)])
    assert np.array_equal(shown(tmp_path / "x.dcm"), 255.0 - RAMP)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_tables_of_the_modality(tmp_path, bits):
    entries = np.round(CURVE * (2**bits - 1)).astype(int)
    write_dicom(tmp_path / "x.dcm", DEEP, bits=12, ModalityLUTSequence=[table(bits, 0, entries)])
    expected = entries[DEEP.clip(0, 2999)]
    assert shown(tmp_path / "x.dcm") == pytest.approx(expected / (2**bits - 1) * 255, abs=0.51)
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2 ** (bits - 2)}
    write_dicom(tmp_path / "w.dcm", DEEP, bits=12, ModalityLUTSequence=[table(bits, 0, entries)], **window)
    expected = [[linear(v, *window.values()) * 255 for v in row] for row in expected]
    assert shown(tmp_path / "w.dcm") == pytest.approx(np.array(expected), abs=0.51)


def palette(bits, entries):
    fields = {}
    for name, values in zip(("Red", "Green", "Blue"), entries.T, strict=True):
        fields[f"{name}PaletteColorLookupTableDescriptor"] = [len(values), 0, bits]
        fields[f"{name}PaletteColorLookupTableData"] = values.astype(np.uint8 if bits == 8 else "<u2").tobytes()
    return fields


@pytest.mark.parametrize(
    ("bits", "top", "white"), [(8, 255, 255), (16, 65535, 65535), (16, 255, 255), (16, 40000, 65535)]
)
def test_palettes(tmp_path, bits, top, white):
    """Entries of 16 bits may hold values of 8."""
    entries = np.random.default_rng(1).integers(0, top + 1, (256, 3))
    entries[0] = top
    write_dicom(tmp_path / "x.dcm", RAMP, photometric="PALETTE COLOR", **palette(bits, entries))
    assert shown(tmp_path / "x.dcm", "0", 3) == pytest.approx(entries[RAMP] / white * 255, abs=0.51)


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (12, 4095), (16, 65535), (16, 4095)])
def test_colour_of_more_bits(tmp_path, bits, top):
    pixels = np.random.default_rng(2).integers(0, top + 1, (8, 12, 3)).astype(np.uint8 if bits == 8 else np.uint16)
    pixels[0, 0] = top
    write_dicom(tmp_path / "x.dcm", pixels, photometric="RGB", bits=bits)
    assert shown(tmp_path / "x.dcm", "0", 3) == pytest.approx(pixels / top * 255, abs=0.51)
