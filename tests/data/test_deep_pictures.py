import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from mirst.data import ImageFile, decode
from mirst.data.deep_pictures import deep_values
from mirst.errors import MirstError
from tests.data.deep import write_png16, write_tiff

RNG = np.random.default_rng(0)


def shown(path, channels=1, value_range=None):
    return np.asarray(decode(ImageFile(path, value_range=value_range), channels)).astype(float)


def close(pixels, low, high):
    """What a range shows, within the rounding to 8 bits."""
    return pytest.approx((pixels.astype(float) - low) / (high - low) * 255, abs=0.5 + 1e-9)


def values(low, high, dtype, shape=(9, 11)):
    """Any values from `low` to `high`, both among them."""
    pixels = RNG.uniform(low, high, shape).astype(dtype)
    pixels.flat[0], pixels.flat[1] = low, high
    return pixels


GRAY = {
    "10 bits": (values(0, 1023, np.uint16), 0, 1023),
    "12 bits": (values(0, 4000, np.uint16), 0, 4095),
    "14 bits": (values(5, 16000, np.uint16), 0, 16383),
    "16 bits": (values(0, 65535, np.uint16), 0, 65535),
    "8 bits in 16": (values(0, 200, np.uint16), 0, 255),
    "a mask": (values(0, 1, np.uint16), 0, 1),
    "far from zero": (values(40000, 40900, np.uint16), 40000, 40900),
    "signed 16 bits": (values(-1024, 3071, np.int16), -1024, 3071),
    "signed 32 bits": (values(-200, 900_000, np.int32), -200, 900_000),
    "unsigned 32 bits": (values(0, 4_000_000_000, np.uint32), 0, 2**32 - 1),
    "float, unit": (values(0.02, 0.9, np.float32), 0, 1),
    "float, 8 bits": (values(0, 243.7, np.float32), 0, 255),
    "float, HU": (values(-1000.5, 1500.25, np.float32), -1000.5, 1500.25),
    "float, small": (values(0, 3.25, np.float32), 0, 3.25),
}


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", GRAY)
def test_a_gray_tiff_is_shown_in_the_range_of_its_values(tmp_path, kind, order):
    pixels, low, high = GRAY[kind]
    write_tiff(tmp_path / "x.tif", pixels, order)
    if pixels.dtype == np.uint32 and order == ">":  # which Pillow does not read
        with pytest.raises(MirstError, match="big-endian 32-bit gray, which is not read; save it as"):
            shown(tmp_path / "x.tif")
        return
    assert shown(tmp_path / "x.tif") == close(pixels, low, high)


@pytest.mark.parametrize("kind", [kind for kind, (pixels, *_) in GRAY.items() if pixels.dtype == np.uint16])
def test_a_gray_png_is_shown_in_the_range_of_its_values(tmp_path, kind):
    pixels, low, high = GRAY[kind]
    write_png16(tmp_path / "x.png", pixels[..., None])
    assert shown(tmp_path / "x.png") == close(pixels, low, high)


def test_a_given_range_counts_for_deep_images_and_clips(tmp_path):
    pixels = values(0, 4000, np.uint16)
    write_png16(tmp_path / "x.png", pixels[..., None])
    assert shown(tmp_path / "x.png", value_range=(0, 65535)) == close(pixels, 0, 65535)
    clipped = shown(tmp_path / "x.png", value_range=(1000, 2000))
    assert clipped == close(pixels.clip(1000, 2000), 1000, 2000)
    Image.fromarray((pixels // 16).astype(np.uint8)).save(tmp_path / "y.png")
    assert np.array_equal(shown(tmp_path / "y.png", value_range=(0, 65535)), pixels // 16)


@pytest.mark.parametrize("write", [
    pytest.param(write_png16, id="png"),
    *(pytest.param(lambda path, pixels, order=order, packed=packed: write_tiff(path, pixels, order, packed=packed),
                   id=f"tiff {order} {packed}") for order in "<>" for packed in (False, True)),
])  # fmt: skip
@pytest.mark.parametrize("top", [4000, 65535])
def test_colour_of_sixteen_bits_keeps_both_bytes(tmp_path, write, top):
    pixels = values(0, top, np.uint16, (9, 11, 3))
    write(tmp_path / "x", pixels)
    assert deep_values(tmp_path / "x").pixels.tolist() == pixels.tolist()
    assert shown(tmp_path / "x", 3) == close(pixels, 0, 4095 if top == 4000 else 65535)


@pytest.mark.parametrize(("channels", "write"), [(2, write_png16), (4, write_png16), (4, write_tiff)])
def test_transparent_parts_are_dark_as_in_eight_bits(tmp_path, channels, write):
    pixels = values(0, 65535, np.uint16, (9, 11, channels))
    pixels[:4, :, -1], pixels[4:6, :, -1] = 0, 65535
    write(tmp_path / "x", pixels)
    alpha = pixels[..., -1:] / 65535
    expected = np.broadcast_to(pixels[..., :-1] * alpha, (9, 11, 3))
    assert shown(tmp_path / "x", 3) == pytest.approx(expected / 65535 * 255, abs=0.51)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("extra", [0, 1], ids=["unused", "multiplied alpha"])
def test_a_fourth_channel_that_hides_nothing_is_ignored(tmp_path, extra, order, packed):
    """Colours that are multiplied by alpha lie on black already."""
    pixels = values(0, 4000, np.uint16, (9, 11, 4))
    pixels[..., 3] = RNG.integers(0, 65536, (9, 11))
    write_tiff(tmp_path / "x.tif", pixels, order, packed=packed, extra=extra)
    assert deep_values(tmp_path / "x.tif").pixels.tolist() == pixels[..., :3].tolist()
    assert shown(tmp_path / "x.tif", 3) == close(pixels[..., :3], 0, 4095)


UNREAD = {
    "16-bit RGB in separate planes": (np.uint16, 3, {"planes": True}),
    "16-bit RGB with 1 extra channel in separate planes": (np.uint16, 4, {"planes": True}),
    "16-bit CMYK": (np.uint16, 4, {"photometric": 5}),
    "16-bit CMYK in separate planes": (np.uint16, 4, {"photometric": 5, "planes": True}),
    "16-bit floating-point gray": (np.float16, 1, {}),
    "64-bit floating-point gray": (np.float64, 1, {}),
    "32-bit floating-point RGB": (np.float32, 3, {}),
    "32-bit RGB": (np.uint32, 3, {}),
    "16-bit signed RGB": (np.int16, 3, {}),
    "16-bit gray with 1 extra channel": (np.uint16, 2, {"photometric": 1}),
    "16-bit gray with 2 extra channels": (np.uint16, 3, {"photometric": 1}),
    "8-bit gray with 1 extra channel": (np.uint8, 2, {"photometric": 1, "extra": 0}),
    "8-bit signed gray with white as 0": (np.int8, 1, {"photometric": 0}),
    "8-bit signed RGB": (np.int8, 3, {}),
    "8-bit ICC LAB": (np.uint8, 1, {"photometric": 9}),
    "8-bit photometric interpretation 32803": (np.uint8, 1, {"photometric": 32803}),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", UNREAD)
def test_a_tiff_that_is_not_read_in_full_is_refused_by_its_layout(tmp_path, layout, order, packed):
    dtype, channels, fields = UNREAD[layout]
    write_tiff(tmp_path / "x.tif", values(0, 100, dtype, (9, 11, channels)), order, packed=packed, **fields)
    order = "big-endian " if order == ">" and not layout.startswith("8") else ""
    mend = " in one plane" if "planes" in layout else ""
    with pytest.raises(MirstError) as refused:
        shown(tmp_path / "x.tif")
    assert str(refused.value) == (
        f"{tmp_path / 'x.tif'} is a TIFF of {order}{layout}, which is not read; "
        f"save it as 8- or 16-bit gray or RGB{mend}"
    )


@pytest.mark.parametrize("layout", ["16-bit gray with white as 0", "32-bit gray", "12-bit gray"])
def test_big_endian_gray_that_is_not_read_is_refused_by_its_layout(tmp_path, layout):
    pixels = values(0, 100, np.uint32 if layout.startswith("32") else np.uint16)
    bits, photometric = int(layout[:2]), 0 if "white" in layout else 1
    write_tiff(tmp_path / "x.tif", pixels, ">", bits=bits, photometric=photometric)
    with pytest.raises(MirstError, match=f"is a TIFF of big-endian {layout}, which is not read; save it"):
        shown(tmp_path / "x.tif")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_planes_of_eight_bits_are_read(tmp_path, order, packed):
    pixels = values(0, 255, np.uint8, (9, 11, 3))
    write_tiff(tmp_path / "x.tif", pixels, order, packed=packed, planes=True)
    assert np.array_equal(shown(tmp_path / "x.tif", 3), pixels)


@pytest.mark.parametrize("length", [0, 3, 8, 100])
def test_a_cut_tiff_is_no_sound_file(tmp_path, length):
    write_tiff(tmp_path / "whole.tif", values(0, 1, np.float16))
    (tmp_path / "x.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:length])
    with pytest.raises(MirstError, match="not a valid file of PNG"):
        shown(tmp_path / "x.tif")


def test_a_transparent_value_is_black_and_no_part_of_the_range(tmp_path):
    gray = values(0, 4000, np.uint16)
    gray[2] = 60000
    write_png16(tmp_path / "gray.png", gray[..., None], transparent=[60000])
    assert shown(tmp_path / "gray.png") == close(np.where(gray == 60000, 0, gray), 0, 4095)
    colour = values(0, 4000, np.uint16, (9, 11, 3))
    colour[2] = 60000, 1, 2
    write_png16(tmp_path / "colour.png", colour, transparent=[60000, 1, 2])
    colour[2] = 0
    assert shown(tmp_path / "colour.png", 3) == close(colour, 0, 4095)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_white_is_zero_where_a_tiff_says_so(tmp_path, dtype):
    pixels = values(0, 1 if dtype is np.float32 else np.iinfo(dtype).max, dtype)
    write_tiff(tmp_path / "x.tif", pixels, photometric=0)
    assert shown(tmp_path / "x.tif") == close(pixels.max() - pixels.astype(float), 0, pixels.max())


def test_signed_bytes_keep_their_order(tmp_path):
    pixels = values(-128, 127, np.int8)
    write_tiff(tmp_path / "x.tif", pixels)
    assert shown(tmp_path / "x.tif") == close(pixels, -128, 127)


def test_twelve_packed_bits(tmp_path):
    pixels = np.array([[0, 4095, 1, 2048], [17, 300, 4000, 5]], dtype=np.uint16)
    nibbles = "".join(f"{value:03x}" for value in pixels.flat)
    packed = np.frombuffer(bytes.fromhex(nibbles), np.uint8).reshape(2, 6)
    write_tiff(tmp_path / "x.tif", packed, bits=12)
    content = bytearray((tmp_path / "x.tif").read_bytes())
    at = content.index(b"\x00\x01\x04\x00\x01\x00\x00\x00\x06")  # the width: four values in six bytes
    content[at + 8] = 4
    (tmp_path / "x.tif").write_bytes(content)
    assert shown(tmp_path / "x.tif") == close(pixels, 0, 4095)


def test_a_pgm_states_its_range(tmp_path):
    (tmp_path / "x.pgm").write_bytes(b"P5 3 1 1000\n" + np.array([0, 100, 500], ">u2").tobytes())
    assert shown(tmp_path / "x.pgm") == close(np.array([[0, 100, 500]]), 0, 1000)


def test_values_that_are_no_numbers_are_black(tmp_path):
    pixels = values(0, 1, np.float32)
    pixels[3, 3], pixels[4, 4], pixels[5, 5] = np.nan, np.inf, -np.inf
    write_tiff(tmp_path / "x.tif", pixels)
    gray = shown(tmp_path / "x.tif")
    assert (gray[3, 3], gray[4, 4], gray[5, 5]) == (0, 255, 0)
    rest = np.isfinite(pixels)
    assert gray[rest] == close(pixels[rest], 0, 1)
    write_tiff(tmp_path / "none.tif", np.full((4, 4), np.nan, np.float32))
    assert not shown(tmp_path / "none.tif").any()


def test_deep_pictures_are_turned_upright(tmp_path):
    pixels = values(0, 4095, np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif, pnginfo=PngInfo())
    assert shown(tmp_path / "x.png") == close(np.rot90(pixels, -1), 0, 4095)


def test_eight_bits_are_left_to_pillow(tmp_path):
    Image.fromarray(values(0, 255, np.uint8)).save(tmp_path / "x.png")
    assert deep_values(tmp_path / "x.png") is None


def test_a_lab_tiff_is_read(tmp_path):
    colour = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((40, 40))
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    ImageCms.profileToProfile(colour, rgb, lab, outputMode="LAB").save(tmp_path / "x.tif")
    assert np.abs(shown(tmp_path / "x.tif", 3) - np.asarray(colour)).mean() < 4
    assert np.abs(shown(tmp_path / "x.tif") - np.asarray(colour.convert("L"))).mean() < 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "LAB", "I", "I;16", "F"])
def test_every_mode_of_a_tiff_is_read(tmp_path, mode, channels):
    Image.new(mode, (7, 5)).save(tmp_path / "x.tif")
    assert decode(ImageFile(tmp_path / "x.tif"), channels).size == (7, 5)
