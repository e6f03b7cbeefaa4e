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
    """Images in memory, indexed by a list of positions: one call gives one batch."""

    images: Pixels
    """`(N, C, H, W)`, 0 to 255."""
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    """`(N,)` class indices."""
    augment: bool = False
    """Flip left-right and shift by up to 1/16 of the side, at random (torch's global generator)."""

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: list[int]) -> Batch:
        x = torch.from_numpy(np.asarray(self.images[indices])).float().div_(255)
        return (flip_and_shift(x) if self.augment else x), torch.from_numpy(self.labels[indices])


def batches(data: ImageSet, batch_size: int, shuffle: bool = False) -> DataLoader[Batch]:
    """A loader of `(x, y)`: `x` `(n, C, H, W)` in [0, 1], `y` `(n,)`.

    When shuffled, a last batch of a single image is left out: batch norm cannot train on it.
    """
    order = RandomSampler(data) if shuffle else SequentialSampler(data)
    lone_rest = len(data) > 1 and len(data) % batch_size == 1
    sampler = BatchSampler(order, batch_size, drop_last=shuffle and lone_rest)
    return DataLoader(data, sampler=sampler, batch_size=None)


def flip_and_shift(x: Tensor) -> Tensor:
    """Each image flipped left-right with probability 1/2 and shifted by up to 1/16 of its sides, zeros moving in."""
    n, _, height, width = x.shape
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.5, x.flip(-1), x)
    reach = max(height, width) // 16
    padded = torch.nn.functional.pad(x, (reach,) * 4)
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, n)).tolist()
    return torch.stack(
        [image[:, i : i + height, j : j + width] for image, i, j in zip(padded, tops, lefts, strict=True)]
    )
