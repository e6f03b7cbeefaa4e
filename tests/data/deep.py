"""Pictures of more than 8 bits a channel, written byte by byte: Pillow writes few of the kinds that it reads."""

import struct
import zlib

import numpy as np

PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
"""Colour type by channels (PNG, 11.2.2)."""


def write_png16(path, pixels, transparent=None):
    """`(H, W, channels)` as 16-bit gray, gray and alpha, RGB or RGBA."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    if transparent is not None:
        chunks.insert(1, (b"tRNS", np.asarray(transparent, ">u2").tobytes()))
    written = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))


def write_tiff(path, pixels, order="<", photometric=None, packed=False, bits=None, extra=2, planes=False):
    """`(H, W)` or `(H, W, channels)` of any type, in one strip, or one for each channel if in `planes`; deflated if
    `packed`. Channels above those of the photometric interpretation are of the type `extra`: 0, 1 or 2."""
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    height, width, channels = pixels.shape
    strips = [
        part.astype(part.dtype.newbyteorder(order)).tobytes()
        for part in (np.moveaxis(pixels, 2, 0) if planes else [pixels])
    ]
    strips = [zlib.compress(strip) if packed else strip for strip in strips]
    starts, data = np.cumsum([8, *map(len, strips)])[:-1].tolist(), b"".join(strips)
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    deep, photometric = (
        bits or 8 * pixels.dtype.itemsize,
        photometric if photometric is not None else (channels > 1) + 1,
    )
    entries = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [deep] * channels), (259, 3, [8 if packed else 1]),
        (262, 3, [photometric]), (273, 4, starts), (277, 3, [channels]), (278, 4, [height]),
        (279, 4, [*map(len, strips)]), (284, 3, [1 + planes]), (339, 3, [kind] * channels),
    ]  # fmt: skip
    if more := channels - {2: 3, 5: 4}.get(photometric, 1):
        entries.insert(10, (338, 3, [extra] * more))
    beside, directory = b"", struct.pack(order + "H", len(entries))
    after = 8 + len(data) + len(data) % 2
    for tag, form, values in entries:
        content = struct.pack(order + {3: "H", 4: "I"}[form] * len(values), *values)
        if len(content) > 4:
            place = struct.pack(order + "I", after + len(beside))
            beside, content = beside + content, place
        directory += struct.pack(order + "HHI", tag, form, len(values)) + content.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", after + len(beside))
    path.write_bytes(head + data + b"\0" * (len(data) % 2) + beside + directory + b"\0\0\0\0")
