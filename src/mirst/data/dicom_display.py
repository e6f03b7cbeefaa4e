"""DICOM display: modality, window or look-up table, padding, inversion (PS3.3, C.11, C.7.6.3)."""

import math
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray

from mirst.data.value_range import Intensity, ValueRange, Values

FRAME_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
"""Functional groups of multi-frame files, with elements that single-frame files have at the top level."""


def display(dataset: Any, number: int, stored: NDArray[Any]) -> Values:
    """The values of frame `number`, with the range that the file states, if any.

    Raises:
        ValueError: elements that contradict the standard.
    """
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return _palette(dataset, stored)
    bits = int(dataset.get("BitsStored") or 64)
    if stored.ndim == 3:
        return Values(stored, Intensity(_bits(bits), ValueRange(0, 2**bits - 1)) if bits <= 8 else None)
    header = _Header(dataset, number)
    values, stated = _shown(header, stored, bits)
    return Values(values, stated, _padding(header, stored), _is_inverted(header))


class _Header:
    """The elements of one frame: of its functional groups, of those that frames share, else of the file.

    An empty element counts as none.
    """

    def __init__(self, dataset: Any, number: int) -> None:
        self.dataset = dataset
        self.places = [*_groups(dataset, number), dataset]

    def get(self, name: str) -> Any:
        found = (place.get(name) for place in self.places)
        return next((value for value in found if not _is_empty(value)), None)

    def number(self, name: str) -> float | None:
        """The first value of an element; none where it is no finite number."""
        value = self.get(name)
        first = math.nan if value is None else float(np.atleast_1d(value)[0])
        return first if math.isfinite(first) else None


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def _groups(dataset: Any, number: int) -> Iterator[Any]:
    own, shared = dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")
    items = [own[number]] if own and number < len(own) else []
    for item in [*items, *list(shared or [])[:1]]:
        for group in FRAME_GROUPS:
            yield from list(item.get(group) or [])[:1]


def _shown(header: _Header, stored: NDArray[Any], bits: int) -> tuple[NDArray[Any], Intensity | None]:
    """Through the modality's values to those of the window or table; the stated range."""
    table = header.get("ModalityLUTSequence")
    slope, intercept = header.number("RescaleSlope") or 1.0, header.number("RescaleIntercept") or 0.0
    signed = int(header.dataset.get("PixelRepresentation") or 0) * 2 ** (bits - 1)
    ends = sorted(end * slope + intercept for end in (-signed, 2**bits - 1 - signed))
    if table:
        values = _looked_up(stored, _table(header.dataset, table[0], signed > 0))
    else:
        values = stored if (slope, intercept) == (1, 0) else stored * slope + intercept
    if tables := header.get("VOILUTSequence"):
        voi = _table(header.dataset, tables[0], not table and ends[0] < 0)
        full = _full(voi.bits, int(voi.entries.max()))
        return _looked_up(values, voi), Intensity("VOI LUT", ValueRange(0, full))
    if window := _window(header):
        low, high, sigmoid = window
        if sigmoid and high > low:
            values = low + (high - low) * scipy.special.expit(4 * (values - (low + high) / 2) / (high - low))
        return values, Intensity("window", ValueRange(low, high))
    if bits > 8 or table:
        return values, None
    return values, Intensity(_bits(bits), ValueRange(*ends))


def _is_inverted(header: _Header) -> bool:
    """MONOCHROME1 and INVERSE state the same inversion, each alone or both (C.8.11.3.1.2)."""
    shape = str(header.get("PresentationLUTShape")).strip().upper()
    return header.dataset.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE"


def _bits(bits: int) -> str:
    return f"{bits} bit{'s' if bits > 1 else ''}"


def _window(header: _Header) -> tuple[float, float, bool] | None:
    """Ends of the window, and whether its curve is a sigmoid (C.11.2.1.2); none where it is missing or has no width."""
    centre, width = header.number("WindowCenter"), header.number("WindowWidth")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ValueError(f"its VOI LUT function is {function}; LINEAR, LINEAR_EXACT and SIGMOID are read")
    if centre is None or width is None or width < (1 if function == "LINEAR" else sys.float_info.min):
        return None
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return centre - width / 2, centre + width / 2, function == "SIGMOID"


class _Table(NamedTuple):
    first: int
    """The value that the first entry shows."""
    entries: NDArray[Any]
    bits: int
    """Of an entry, as declared."""


def _table(dataset: Any, item: Any, signed: bool) -> _Table:
    """A look-up table (C.11.1.1, C.11.2.1.1). pydicom's own look-up fails for 12-bit
    modality tables and for tables of more than 256 entries of 8 bits.

    Args:
        signed: the values that it maps may lie below 0, so that its first one is a signed number.
    """
    count, first, bits = _descriptor(item, "LUTDescriptor")
    if signed and first >= 2**15:
        first -= 2**16
    data = item.get("LUTData")
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        packed = bits <= 8 and len(data) < 2 * count
        data = np.frombuffer(data, np.uint8 if packed else f"{order}u2")
    entries = np.atleast_1d(np.asarray([] if data is None else data, dtype=np.uint16))[:count]
    if not entries.size:
        raise ValueError("its look-up table is empty")
    return _Table(first, entries, bits)


def _descriptor(item: Any, name: str) -> tuple[int, int, int]:
    """Number of entries, first value mapped, and bits of an entry."""
    described = np.atleast_1d(item.get(name) or [])
    if len(described) != 3:
        raise ValueError(f"the {name} of its look-up table is missing or does not consist of three numbers")
    count, first, bits = (int(value) for value in described)
    return count or 2**16, first, bits


def _looked_up(values: NDArray[Any], table: _Table) -> NDArray[Any]:
    places = np.rint(values.astype(np.float64) - table.first).clip(0, len(table.entries) - 1)
    return np.asarray(table.entries[places.astype(np.intp)])


def _palette(dataset: Any, stored: NDArray[Any]) -> Values:
    from pydicom.pixels import apply_color_lut

    count, first, bits = _descriptor(dataset, "RedPaletteColorLookupTableDescriptor")
    entries = apply_color_lut(np.arange(first, first + count), dataset)
    stated = Intensity("palette", ValueRange(0, _full(bits, int(entries[..., :3].max()))))
    return Values(apply_color_lut(stored, dataset)[..., :3], stated)


def _full(bits: int, largest: int) -> int:
    """The entry that is white: that of `bits`, unless the entries contradict it."""
    full = int(2**bits - 1)
    return full if full / 4 <= largest <= full else int(2 ** max(8, largest.bit_length()) - 1)


def _padding(header: _Header, stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where the stored values are padding (C.7.5.1.1.2), whichever sign the file gives their number."""
    ends = [header.number(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None or stored.dtype.kind == "f":
        return None
    own = np.array([end for end in ends if end is not None]).astype(np.int64).astype(stored.dtype)
    found: NDArray[np.bool_] = (stored >= own.min()) & (stored <= own.max())
    return found
