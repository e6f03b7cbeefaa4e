import numpy as np
import torch

from mirst.data import Augmentation, ImageSet, data_loader


def image_set(n=10, augment=None):
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
        return [y.tolist() for _, y in data_loader(image_set(augment=Augmentation()), 4, shuffle=True)]

    assert labels(1) == labels(1)
    assert labels(1) != labels(2)
