"""Prepared images as batches for training and evaluation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from mirst.data.images import Pixels

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ImageSet(Dataset[Batch]):
    """Images in memory, indexed by a list of positions: one call returns one batch.

    >>> images = ImageSet(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 1, 0]))
    >>> x, y = images[[0, 1]]
    >>> x.shape, y
    (torch.Size([2, 1, 8, 8]), tensor([0, 1]))
    """

    images: Pixels
    """`(N, C, H, W)`, 0 to 255."""
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    """`(N,)` class indices."""
    augment: bool = False
    """Flip left-right and shift by up to 1/16 of the side, at random (torch's global generator)."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: list[int]) -> Batch:
        chosen = np.asarray(self.images[indices])
        pixels = flip_and_shift(chosen) if self.augment else chosen
        return torch.from_numpy(pixels).float().div_(255), torch.from_numpy(self.labels[indices])


def data_loader(data: ImageSet, batch_size: int, shuffle: bool = False) -> DataLoader[Batch]:
    """A loader of `(x, y)`: `x` `(n, C, H, W)` in [0, 1], `y` `(n,)`.

    When shuffled, a last batch of a single image is left out: batch norm cannot train on it.
    """
    order = RandomSampler(data) if shuffle else SequentialSampler(data)
    lone_rest = len(data) > 1 and len(data) % batch_size == 1
    sampler = BatchSampler(order, batch_size, drop_last=shuffle and lone_rest)
    return DataLoader(data, sampler=sampler, batch_size=None)


def flip_and_shift(images: Pixels) -> Pixels:
    """Each image flipped left-right with probability 1/2 and shifted by up to 1/16 of its sides, filled with zeros."""
    n, _, height, width = images.shape
    flips = (torch.rand(n, 1, 1, 1) < 0.5).flatten().tolist()
    reach = max(height, width) // 16
    tops, lefts = (torch.randint(0, 2 * reach + 1, (2, n)) - reach).tolist()
    moved = np.zeros_like(images)
    for image, target, flip, down, right in zip(images, moved, flips, tops, lefts, strict=True):
        source = image[:, :, ::-1] if flip else image
        target[:, max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)] = source[
            :, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)
        ]
    return moved
