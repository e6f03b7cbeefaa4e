import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mirst.data import ImageFile, decode, letterbox, load_images, picture_count
from mirst.errors import MirstError


def test_eight_bit_gray_is_kept(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert np.array_equal(np.asarray(decode(ImageFile(tmp_path / "x.png"))), pixels)


def test_sixteen_bit_is_scaled_not_clipped(tmp_path):
    pixels = (np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300).astype(np.uint16)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert np.array_equal(np.asarray(decode(ImageFile(tmp_path / "x.png"))), np.round(pixels / 65535 * 255))


def test_transparent_pixels_are_black(tmp_path):
    image = Image.new("RGBA", (4, 4), (255, 255, 255, 255))
    image.putpixel((1, 2), (255, 255, 255, 0))
    image.save(tmp_path / "x.png")
    gray = np.asarray(decode(ImageFile(tmp_path / "x.png")))
    assert gray[2, 1] == 0
    assert (gray == 255).sum() == 15


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (8, 4)).save(tmp_path / "x.jpg", exif=exif)
    assert decode(ImageFile(tmp_path / "x.jpg")).size == (4, 8)


def test_colour(tmp_path):
    Image.new("RGB", (4, 6), (200, 10, 10)).save(tmp_path / "x.png")
    assert load_images([ImageFile(tmp_path / "x.png")], 16).shape == (1, 1, 16, 16)
    colour = load_images([ImageFile(tmp_path / "x.png")], 16, channels=3)
    assert colour.shape == (1, 3, 16, 16)
    assert tuple(colour[0, :, 8, 8]) == (200, 10, 10)


@given(st.integers(12, 40), st.integers(12, 40), st.integers(16, 48))
def test_letterbox_pads_with_zeros_and_never_stretches(width, height, size):
    boxed = np.asarray(letterbox(Image.new("L", (width, height), 255), size)).astype(float) / 255
    assert boxed.shape == (size, size)
    side = max(width, height)
    assert boxed.mean() == pytest.approx(width * height / side**2, abs=1 / size)
    lit = boxed > 0.5
    for axis, length in ((0, width), (1, height)):
        assert abs(lit.any(axis).sum() - size * length / side) <= 2


def test_a_circle_stays_a_circle():
    y, x = np.mgrid[:60, :120]
    disc = ((y - 30) ** 2 + (x - 60) ** 2 < 25**2).astype(np.uint8) * 255
    boxed = np.asarray(letterbox(Image.fromarray(disc), 64)) > 127
    assert abs(int(boxed.any(0).sum()) - int(boxed.any(1).sum())) <= 1


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(MirstError, match=r"bad\.png"):
        decode(ImageFile(tmp_path / "bad.png"))


def test_a_truncated_image_is_named(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MirstError, match=r"cut\.png"):
        decode(ImageFile(tmp_path / "cut.png"))
    with pytest.raises(MirstError, match=r"missing\.png"):
        decode(ImageFile(tmp_path / "missing.png"))


def test_an_image_too_large_to_be_safe_is_named(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MirstError, match=r"big\.png"):
        decode(ImageFile(tmp_path / "big.png"))


def test_a_strip_that_would_fill_the_memory_when_squared_is_named(tmp_path):
    Image.new("L", (2, 20_000)).save(tmp_path / "strip.png")
    with pytest.raises(MirstError, match=r"strip\.png is 2 x 20000"):
        decode(ImageFile(tmp_path / "strip.png"))


PAGED = ["tiff", "gif", "png", "webp", "mpo"]


def save_pages(path, form, count):
    rng = np.random.default_rng(count)
    pages = [Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(count)]
    pages[0].save(path, form, **({"save_all": True, "append_images": pages[1:]} if count > 1 else {}))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("form", PAGED)
def test_pages_and_frames_are_counted(tmp_path, form, count):
    save_pages(tmp_path / "x.png", form, count)
    assert picture_count(ImageFile(tmp_path / "x.png")) == count


@pytest.mark.parametrize("form", ["tiff", "gif"])
def test_pages_behind_a_damaged_one_are_not_counted(tmp_path, form):
    save_pages(tmp_path / "x.png", form, 3)
    content = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(content[: len(content) * 2 // 3])
    assert picture_count(ImageFile(tmp_path / "x.png")) in (1, 2)


def test_other_files_are_one_picture(phantoms, tmp_path):
    (tmp_path / "x.png").write_text("none")
    assert picture_count(ImageFile(tmp_path / "x.png")) == 1
    assert {picture_count(ImageFile(path)) for path in phantoms.glob("*/*.png")} == {1}
