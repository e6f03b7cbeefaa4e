"""Pictures that ask for more than they are: each is refused, or read small, before anything is allocated."""

import io
import os
import resource
import shutil
import struct
import zlib

import pytest
from PIL import Image

from mirst.data import ImageFile, decode
from mirst.errors import MirstError
from mirst.untrusted.pictures import MAX_SIDE, open_picture


def saved(kind, **settings):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4)).save(buffer, kind, **settings)
    return buffer.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(*chunks):
    """A sound PNG with more chunks before its pixels."""
    sound = saved("png")
    return sound[:33] + b"".join(chunks) + sound[33:]


def tags(count, size, *more):
    """A TIFF directory, `count` tags of which show the same `size` bytes."""
    entries = sorted([*more, *((40_000 + i, 1, size, 8) for i in range(count))])
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<I", 8 + size) + b"\0" * size + struct.pack("<H", len(entries)) + directory + b"\0" * 4
    )


ORIENTED = tags(1000, 500_000, (0x112, 3, 1, 6))
"""EXIF that turns the image, half a megabyte that would become half a gigabyte."""
PIXELS = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
TIFF_TAGS = [*PIXELS, (277, 3, 1, 1), (278, 4, 1, 4), (279, 4, 1, 16)]


def segmented(exif):
    """A JPEG with so much EXIF that it takes several segments."""
    parts = [exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return b"\xff\xd8" + segments + saved("jpeg")[20:]


def bmp(width, height, packed):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(packed), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(packed), 0, 0, 1078) + head + b"\0" * 1024 + packed


def packed_zeros(megabytes):
    packer = zlib.compressobj()
    return b"".join([*(packer.compress(b"\0" * 2**20) for _ in range(megabytes)), packer.flush()])


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 0, 0, 0, 0))
BOMBS = {
    "tags of a TIFF": (tags(1000, 500_000, *TIFF_TAGS), "not a valid file of|far larger than the file"),
    "tags of a JPEG": (segmented(ORIENTED), "far larger than the file"),
    "packed text": (png(chunk(b"zTXt", b"a\0\0" + packed_zeros(16))), "Decompressed data too large"),
    "many texts": (png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 10**6))] * 100), "Too much memory"),
    "a colour profile": (png(chunk(b"iCCP", b"a\0\0" + packed_zeros(16))), "Decompressed data too large"),
    "sides of a PNG": (b"\x89PNG\r\n\x1a\n" + HEADER + chunk(b"IDAT", b""), "exceeds limit"),
    "sides of a GIF": (saved("gif")[:6] + b"\xff" * 4 + saved("gif")[10:], "exceeds limit"),
    "a jump of a BMP": (bmp(80_000_000, 1, b"\0\2\0\xff" * 3), "80000000 x 1; images with sides of at most 16384"),
    "pixels that are not there": (b"P6\n9000 9000\n255\n\0", "truncated"),
    "another format": (saved("ico"), "not a valid file of"),
    "a document": (saved("pdf"), "not a valid file of"),
}


@pytest.mark.parametrize(("content", "words"), BOMBS.values(), ids=BOMBS)
def test_small_files_with_large_headers_use_little_memory(tmp_path, content, words):
    (tmp_path / "x.png").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MirstError, match=words) as caught:
        decode(ImageFile(tmp_path / "x.png"))
    assert len(str(caught.value).splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


@pytest.mark.parametrize("content", [png(chunk(b"eXIf", ORIENTED)), saved("webp", exif=ORIENTED)])
def test_exif_too_large_to_be_safe_is_not_looked_at(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decode(ImageFile(tmp_path / "x.png")).size == (8, 4)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_usual_exif_turns_the_image_whatever_the_format(tmp_path):
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "maker " * 1000
    for kind in ("jpeg", "png", "webp", "tiff"):
        (tmp_path / "x").write_bytes(saved(kind, exif=exif))
        assert decode(ImageFile(tmp_path / "x")).size == (4, 8)


def test_no_other_program_is_started(tmp_path, monkeypatch):
    """Pillow gives EPS to Ghostscript, whatever the file is called."""
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    assert shutil.which("gs") == str(gs)
    (tmp_path / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(MirstError, match="not a valid file of PNG, JPEG"):
        decode(ImageFile(tmp_path / "x.png"))
    assert not (tmp_path / "ran").exists()


def test_of_many_frames_the_first_is_the_image(tmp_path):
    frames = [Image.new("L", (8, 4), shade) for shade in range(200)]
    for kind in ("gif", "webp", "png", "tiff"):
        frames[7].save(tmp_path / "x", kind, save_all=True, append_images=frames)
        assert decode(ImageFile(tmp_path / "x")).size == (8, 4)
        assert abs(decode(ImageFile(tmp_path / "x")).getpixel((0, 0)) - 7) < 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_what_is_no_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("fifo.png", "fifo", "dir.png", "zero.png", "loop.png", "missing.png"):
        with pytest.raises(MirstError, match=f"{name} is not a file"):
            decode(ImageFile(tmp_path / name))


def test_sides_are_judged_by_the_header(tmp_path):
    Image.new("1", (MAX_SIDE + 1, 1)).save(tmp_path / "x.png")
    with pytest.raises(MirstError, match="images with sides of at most"), open_picture(tmp_path / "x.png"):
        pytest.fail("opened")
