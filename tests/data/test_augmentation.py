import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from mirst.data import Augmentation, ImageSet, Lesions
from mirst.errors import MirstError

STILL = {"flip": False, "shift": 0.0}


def pictures(n=20, side=32, seed=0):
    """Smooth images, so that resampling changes them little."""
    y, x = np.mgrid[0:side, 0:side] / side
    waves = np.random.default_rng(seed).uniform(1, 4, (n, 2, 1, 1))
    levels = 128 + 60 * np.sin(waves[:, 0] * 6 * x) + 60 * np.cos(waves[:, 1] * 6 * y)
    return levels.round().clip(1, 255).astype(np.uint8)[:, None]


def seeded(seed, call, *arguments):
    torch.manual_seed(seed)
    return call(*arguments)


def test_by_default_images_are_only_flipped_and_shifted():
    """Each result is the original or its mirror image, moved by at most 2 of 32 pixels, zeros elsewhere."""
    images = np.random.default_rng(0).integers(1, 256, (40, 1, 32, 32), dtype=np.uint8)
    x, moved = torch.from_numpy(images), torch.from_numpy(seeded(0, Augmentation().moved, images, 32))
    seen = set()
    for before, after in zip(x, moved, strict=True):
        matches = [
            (flip, dy, dx)
            for flip in (False, True)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(
                after[0, max(dy, 0) : 32 + min(dy, 0), max(dx, 0) : 32 + min(dx, 0)],
                (before.flip(-1) if flip else before)[0, max(-dy, 0) : 32 - max(dy, 0), max(-dx, 0) : 32 - max(dx, 0)],
            )
        ]
        assert len(matches) == 1
        _, dy, dx = matches[0]
        assert after.count_nonzero() == (32 - abs(dy)) * (32 - abs(dx))
        seen.add(matches[0])
    assert len(seen) > 15
    assert len({flip for flip, _, _ in seen}) == 2


def test_a_crop_is_shifted_over_its_surroundings():
    surroundings = pictures(side=64)
    moved = seeded(0, Augmentation(flip=False, shift=0.25).moved, surroundings, 32)
    places = [
        [
            (down, right)
            for down in range(-8, 9)
            for right in range(-8, 9)
            if np.array_equal(after, before[16 + down : 48 + down, 16 + right : 48 + right])
        ]
        for before, after in zip(surroundings[:, 0], moved[:, 0], strict=True)
    ]
    assert all(places)
    assert len({one[0] for one in places}) > 10


def test_nothing_configured_changes_nothing():
    images, none = pictures(), Augmentation(**STILL)
    assert np.array_equal(none.recoloured(none.moved(images, 32)), images)


def reference(image, angle, scale, size):
    """Rotated and scaled about the centre by scipy, an independent implementation."""
    turn = np.deg2rad(angle)
    matrix = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    full = image.shape[-1]
    offset = np.array([(full - 1) / 2] * 2) - matrix @ np.array([(size - 1) / 2] * 2)
    return affine_transform(image.astype(float), matrix, offset, (size, size), order=1, mode="mirror")


@pytest.mark.parametrize(
    ("options", "angles", "scales"),
    [
        ({"rotation": 30}, range(-30, 31), [1.0]),
        ({"scale": 0.5}, [0], np.geomspace(1 / 1.5, 1.5, 81)),
    ],
)
def test_images_are_rotated_and_scaled_about_their_centre_within_the_limits(options, angles, scales):
    surroundings = pictures(6, side=64)
    moved = seeded(1, Augmentation(**STILL, **options).moved, surroundings, 32)
    found = []
    for before, after in zip(surroundings[:, 0], moved[:, 0], strict=True):
        errors = {
            (angle, scale): np.abs(reference(before, angle, scale, 32) - after).mean()
            for angle in angles
            for scale in scales
        }
        best = min(errors, key=errors.get)
        assert errors[best] < 1.5
        found.append(best)
    assert len(set(found)) > 3


def test_whole_images_are_continued_with_zeros():
    moved = seeded(0, Augmentation(**STILL, rotation=45).moved, np.full((10, 1, 32, 32), 200, np.uint8), 32)
    assert (moved[:, :, 0, 0] == 0).any()
    assert (moved[:, :, 16, 16] == 200).all()


def test_intensity_changes_contrast_and_brightness_linearly():
    images = (pictures() // 4 + 96).astype(np.uint8)  # far from 0 and 255: nothing is clipped
    changed = seeded(0, Augmentation(**STILL, intensity=0.2).recoloured, images)
    slopes = []
    for before, after in zip(images[:, 0], changed[:, 0], strict=True):
        slope, intercept = np.polyfit(before.ravel(), after.ravel().astype(float), 1)
        assert np.abs(slope * before + intercept - after).max() <= 1
        middle = slope * before.mean() + intercept - before.mean()
        assert abs(middle) <= 255 * 0.1 + 0.6
        slopes.append(slope)
    assert 0.79 <= min(slopes) < 0.9 < 1.1 < max(slopes) <= 1.21


def test_cutout_sets_a_square_to_the_mean():
    images = pictures()
    changed = seeded(0, Augmentation(**STILL, cutout=0.25).recoloured, images)
    for before, after in zip(images[:, 0], changed[:, 0], strict=True):
        rows, columns = np.nonzero(before != after)
        assert np.ptp(rows) < 8
        assert np.ptp(columns) < 8
        assert set(after[rows, columns]) == {round(before.mean())}
    assert np.array_equal(images, pictures())


@pytest.mark.parametrize("name", ["shift", "rotation", "scale", "cutout", "intensity", "box"])
@pytest.mark.parametrize("value", [-0.1, 1000.0, float("nan")])
def test_a_value_out_of_range_gets_a_sentence(name, value):
    with pytest.raises(MirstError, match=rf"{name} is .*; it must lie between 0 and"):
        Augmentation(**{name: value})


def lesion_set(augment, channel=False):
    features = np.random.default_rng(1).uniform(-1, -0.5, (20, 2))
    lesions = Lesions(32, 0.3, features, as_channel=channel)
    return ImageSet(pictures(side=64), np.zeros(20, np.int64), augment, lesions)


def test_misplaced_boxes_are_new_in_every_batch_and_follow_the_seed():
    data, everything = lesion_set(Augmentation(**STILL, box=0.2)), list(range(20))
    first, again, other = (seeded(seed, data.__getitem__, everything)[0] for seed in (0, 0, 1))
    still = lesion_set(None)[everything][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first - still).abs().flatten(1).amax(1).gt(0).all()


def test_the_channel_of_a_misplaced_box_spells_the_misplaced_box():
    from mirst.box_code import box_features

    data, everything = lesion_set(Augmentation(**STILL, box=0.2), channel=True), list(range(20))
    x, _ = seeded(0, data.__getitem__, everything)
    assert x.shape == (20, 2, 32, 32)
    told, known = box_features(x[:, 1:])
    assert known.all()
    shift = told.numpy() - data.lesions.features
    assert (np.abs(shift) > 0.01).any()
    assert np.abs(shift).max() < 2 * np.log(1 / 0.8)
