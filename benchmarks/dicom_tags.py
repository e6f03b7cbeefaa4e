"""A sound DICOM file with one element of its header changed at a time, in its sequences too.

The files are split and joined here, without pydicom, which would repair or refuse what is written.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

PREAMBLE = 132
LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations with a length of four bytes (PS3.5, 7.1.2)."""
UNDEFINED = 0xFFFFFFFF
TYPES = (b"DS", b"IS", b"US", b"FD", b"LO", b"OW", b"SQ", b"UN", b"??")
VALUES = (
    b"\0" * 8,
    b"\xff" * 8,
    b"9" * 16,
    b"-1",
    b"1e400",
    b"nan",
    b"0\\",
    b"\\\\",
    b"text",
    b"1.2.840.10008.1.2.4.80",
)
LENGTHS = (-2, -1, 1, 2, 2**15, 2**31)


@dataclass(frozen=True)
class Element:
    """One element, explicit VR, little-endian."""

    tag: bytes
    vr: bytes
    value: bytes
    longer: int = 0
    """By how much its length is wrong."""
    undefined: bool = False
    """Without a length: compressed pixel data, which end with the file."""

    def encoded(self) -> bytes:
        length = len(self.value) + self.longer
        if self.undefined:
            return self.tag + self.vr + struct.pack("<HI", 0, UNDEFINED) + self.value
        if self.vr in LONG:
            return self.tag + self.vr + struct.pack("<HI", 0, length % 2**32) + self.value
        return self.tag + self.vr + struct.pack("<H", length % 2**16) + self.value


def changed_headers(sound: bytes) -> Iterator[bytes]:
    """The file with each element deleted, emptied, and of another type, length or value, in turn."""
    for content in _changed(sound[PREAMBLE:]):
        yield sound[:PREAMBLE] + content


def _changed(data: bytes) -> Iterator[bytes]:
    elements = list(_split(data))
    for at, element in enumerate(elements):
        before = b"".join(one.encoded() for one in elements[:at])
        after = b"".join(one.encoded() for one in elements[at + 1 :])
        yield before + after
        for other in _others(element):
            yield before + other.encoded() + after
        if element.vr == b"SQ":
            for value in _changed_items(element.value):
                yield before + replace(element, value=value).encoded() + after


def _others(element: Element) -> Iterator[Element]:
    yield replace(element, value=b"")
    for vr in TYPES:
        yield replace(element, vr=vr, undefined=False)
    for longer in LENGTHS:
        yield replace(element, longer=longer, undefined=False)
    for value in VALUES:
        yield replace(element, value=value)


def _changed_items(value: bytes) -> Iterator[bytes]:
    """The items of a sequence, each with defined length, one of them changed."""
    at = 0
    while at < len(value):
        (length,) = struct.unpack_from("<I", value, at + 4)
        for item in _changed(value[at + 8 : at + 8 + length]):
            yield value[: at + 4] + struct.pack("<I", len(item)) + item + value[at + 8 + length :]
        at += 8 + length


def _split(data: bytes) -> Iterator[Element]:
    at = 0
    while at < len(data):
        tag, vr = data[at : at + 4], data[at + 4 : at + 6]
        head = 12 if vr in LONG else 8
        (length,) = struct.unpack_from("<I" if head == 12 else "<H", data, at + head - (4 if head == 12 else 2))
        undefined = length == UNDEFINED
        value = data[at + head :] if undefined else data[at + head : at + head + length]
        yield Element(tag, vr, value, undefined=undefined)
        at += head + len(value)
