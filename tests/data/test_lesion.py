import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mirst.data import Box, ImageFile, LesionCrop, Lesions, Placements, lesion_crop, prepare_lesions
from mirst.errors import MirstError


def gradient(width=120, height=90):
    """Gray levels that grow by one per pixel to the right and by one downwards."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray((x + y).astype(np.uint8))


def lesions_of(crop, size, margin=0.3):
    return Lesions(size, margin, np.array([crop.features]))


def test_the_crop_is_the_square_around_the_box():
    crop = LesionCrop.of(gradient(), Box(40, 30, 60, 50), size=32, margin=0.3)  # 20 * 1.6 = 32 pixels: no resampling
    middle = lesions_of(crop, 32).crops(crop.surroundings[None])[0, 0]
    assert np.array_equal(middle, np.asarray(gradient())[24:56, 34:66])


@given(st.integers(8, 41), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_odd_and_even_sizes_have_the_centre_of_the_box_in_their_centre(size, margin):
    image = Image.new("L", (101, 101))
    image.paste(255, (40, 40, 61, 61))
    crop = LesionCrop.of(image, Box(40, 40, 61, 61), size, margin)
    middle = lesions_of(crop, size, margin).crops(crop.surroundings[None])[0, 0].astype(float)
    assert middle.shape == (size, size)
    assert np.abs(middle - middle[::-1]).max() <= 1
    assert np.abs(middle - middle.T).max() <= 1
    share = (middle / 255).mean()
    assert share == pytest.approx((1 + 2 * margin) ** -2, abs=0.06)


def test_no_black_bar_tells_the_shape_of_the_box():
    flat = Image.new("L", (100, 60), 130)
    shapes = [Box(0, 0, 100, 60), Box(0, 20, 90, 30), Box(97, 0, 100, 60), Box(0, 58, 100, 60)]
    for box in shapes:
        crop = LesionCrop.of(flat, box, size=32, margin=0.5)
        assert np.unique(crop.surroundings).tolist() == [130]


def test_outside_of_the_image_its_reflection_is_seen():
    crop = LesionCrop.of(gradient(), Box(0, 40, 20, 60), size=32, margin=0.3)
    middle = lesions_of(crop, 32).crops(crop.surroundings[None])[0, 0]
    assert np.array_equal(middle[:, :6], middle[:, 6:12][:, ::-1])  # the square starts 6 pixels left of the image


def test_an_image_without_a_box_is_shown_whole():
    crop = LesionCrop.of(gradient(90, 90), None, size=90, margin=0.3)
    lesions = lesions_of(crop, 90)
    assert np.isnan(crop.features).all()
    assert np.array_equal(lesions.crops(crop.surroundings[None])[0, 0], np.asarray(gradient(90, 90)))
    moved = lesions.misplaced(Placements.fixed(1, shift_x=0.2, scale_y=0.5))
    assert np.array_equal(moved.crops(crop.surroundings[None])[0, 0], np.asarray(gradient(90, 90)))


def test_a_large_image_is_reduced_before_it_is_reflected():
    image = gradient().resize((1200, 900), Image.Resampling.BILINEAR)
    small = LesionCrop.of(gradient(), Box(40, 30, 60, 50), 32, 0.3).surroundings
    large = LesionCrop.of(image, Box(400, 300, 600, 500), 32, 0.3).surroundings
    assert np.abs(small.astype(int) - large).max() <= 4


@pytest.mark.parametrize(
    ("placed", "box"),
    [
        ({}, Box(40, 30, 60, 40)),
        ({"shift_x": 0.2}, Box(44, 30, 64, 40)),
        ({"shift_y": -0.3}, Box(40, 27, 60, 37)),
        ({"scale_x": 0.2}, Box(38, 30, 62, 40)),
        ({"scale_x": -0.2, "scale_y": -0.2}, Box(42, 31, 58, 39)),
        ({"scale_y": 0.9}, Box(40, 25.5, 60, 44.5)),
        ({"scale_y": 1.5}, Box(40, 22.5, 60, 47.5)),
        ({"shift_x": 0.1, "shift_y": 0.2, "scale_x": 0.25}, Box(39.5, 32, 64.5, 42)),
    ],
)
def test_a_misplaced_box_is_seen_as_if_it_had_been_given(placed, box):
    true = LesionCrop.of(gradient(), Box(40, 30, 60, 40), 32, 0.3)
    moved = lesions_of(true, 32).misplaced(Placements.fixed(1, **placed))
    wanted = LesionCrop.of(gradient(), box, 32, 0.3)
    seen = moved.crops(true.surroundings[None])[0, 0].astype(int)
    assert np.abs(seen - lesions_of(wanted, 32).crops(wanted.surroundings[None])[0, 0]).max() <= 1
    assert moved.features[0] == pytest.approx(wanted.features)


def test_placements_are_drawn_from_all_values_within_reach():
    drawn = np.array(Placements.drawn(500, 0.2))
    assert drawn.shape == (4, 500)
    assert np.abs(drawn).max() <= 0.2
    assert (drawn.min(1) < -0.18).all()
    assert (drawn.max(1) > 0.18).all()


def test_a_box_outside_of_its_image_names_the_file(tmp_path):
    gradient().save(tmp_path / "a.png")
    with pytest.raises(
        MirstError, match=r"a\.png: the box 200,0,210,10 covers less than a pixel of the 120 x 90 image"
    ):
        lesion_crop(ImageFile(tmp_path / "a.png"), Box(200, 0, 210, 10), 32, 0.3)


def test_the_cache_knows_box_margin_and_view(tmp_path):
    gradient().save(tmp_path / "a.png")
    files = [ImageFile(tmp_path / "a.png")]
    keys = {
        prepare_lesions(files, [box], size, margin).folder
        for box in (Box(40, 30, 60, 40), Box(40, 30, 60, 41), None)
        for size in (32, 33)
        for margin in (0.3, 0.31)
    }
    assert len(keys) == 12
    first = prepare_lesions(files, [Box(40, 30, 60, 40)], 32, 0.3)
    assert first.pixels.shape == (1, 1, 64, 64)
    assert np.array_equal(first.pixels[0], lesion_crop(files[0], Box(40, 30, 60, 40), 32, 0.3).surroundings)
    assert first.features.tolist() == [list(Box(40, 30, 60, 40).features(120, 90))]


@pytest.mark.parametrize(("width", "height", "size"), [(1000, 30, 32), (100, 100, 17), (30, 1000, 32), (801, 603, 16)])
def test_a_reduced_image_is_not_distorted(width, height, size):
    """Of an image that is linear in x and y, the crop is too: its values follow from the geometry alone."""
    y, x = np.mgrid[0:height, 0:width]
    image = Image.fromarray((20 + 100 * x / width + 100 * y / height).round().astype(np.uint8))
    box = Box(width * 0.4, height * 0.4, width * 0.6, height * 0.6)
    crop = LesionCrop.of(image, box, size, 0.1)
    middle = lesions_of(crop, size, 0.1).crops(crop.surroundings[None])[0, 0].astype(float)
    side = 1.2 * max(box.width, box.height)
    place = (np.arange(size) + 0.5) / size * side - side / 2
    x, y = np.meshgrid((box.x0 + box.x1) / 2 + place, (box.y0 + box.y1) / 2 + place)
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    wanted = 20 + 100 * x / width + 100 * y / height
    edge = (x < 0.05 * width) | (x > 0.95 * width) | (y < 0.05 * height) | (y > 0.95 * height)
    assert np.abs(middle - wanted)[inside & ~edge].max() < 4
