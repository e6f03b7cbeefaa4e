import numpy as np
import torch

from mirst.data import ImageSet, data_loader
from mirst.data.image_set import flip_and_shift


def image_set(n=10, augment=False):
    images = np.random.default_rng(0).integers(0, 256, (n, 1, 32, 32), dtype=np.uint8)
    return ImageSet(images, np.arange(n, dtype=np.int64), augment)


def test_batches_hold_every_image_once_in_order_and_in_range():
    data = image_set()
    loaded = list(data_loader(data, 4))
    assert [len(x) for x, _ in loaded] == [4, 4, 2]
    x = torch.cat([x for x, _ in loaded])
    assert torch.equal(x, torch.from_numpy(data.images).float() / 255)
    assert torch.cat([y for _, y in loaded]).tolist() == list(range(10))


def test_shuffled_batches_leave_out_a_lone_last_image():
    assert [len(x) for x, _ in data_loader(image_set(9), 4, shuffle=True)] == [4, 4]
    assert [len(x) for x, _ in data_loader(image_set(9), 4)] == [4, 4, 1]
    assert [len(x) for x, _ in data_loader(image_set(1), 4, shuffle=True)] == [1]


def test_shuffling_follows_torchs_seed():
    def labels(seed):
        torch.manual_seed(seed)
        return [y.tolist() for _, y in data_loader(image_set(augment=True), 4, shuffle=True)]

    assert labels(1) == labels(1)
    assert labels(1) != labels(2)


def test_augmentation_only_flips_and_shifts():
    """Each result is the original or its mirror image, moved by at most 2 of 32 pixels, zeros elsewhere."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(1, 256, (40, 1, 32, 32), dtype=np.uint8)
    x, moved = torch.from_numpy(images), torch.from_numpy(flip_and_shift(images))
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
