"""Prepared images as batches for training and evaluation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from mirst.box_code import box_code
from mirst.data.augmentation import Augmentation
from mirst.data.images import Pixels
from mirst.data.lesion import Lesions, Placements

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
    """`(N, C, H, W)`, 0 to 255; with `lesions`, crops with their surroundings."""
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    """`(N,)` class indices."""
    augment: Augmentation | None = None
    """Random changes."""
    lesions: Lesions | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: list[int]) -> Batch:
        pixels = np.asarray(self.images[indices])
        images = self._whole(pixels) if self.lesions is None else self._cropped(pixels, self.lesions.at(indices))
        return images, torch.from_numpy(self.labels[indices])

    def _whole(self, pixels: Pixels) -> Tensor:
        if self.augment is not None:
            pixels = self.augment.recoloured(self.augment.moved(pixels, pixels.shape[-1]))
        return _unit(pixels)

    def _cropped(self, surroundings: Pixels, lesions: Lesions) -> Tensor:
        if self.augment is None:
            pixels = lesions.crops(surroundings)
        else:
            if self.augment.box:
                lesions = lesions.misplaced(Placements.drawn(len(surroundings), self.augment.box))
            moved = self.augment.moved(surroundings, lesions.size, lesions.transforms())
            pixels = self.augment.recoloured(moved)
        if not lesions.as_channel:
            return _unit(pixels)
        return torch.cat([_unit(pixels), box_code(torch.from_numpy(lesions.features), lesions.size)], 1)


def _unit(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).float().div_(255)


def data_loader(data: ImageSet, batch_size: int, shuffle: bool = False) -> DataLoader[Batch]:
    """A loader of `(x, y)`: `x` `(n, C, H, W)` in [0, 1], `y` `(n,)`.

    When shuffled, a last batch of a single image is left out: batch norm cannot train on it.
    """
    order = RandomSampler(data) if shuffle else SequentialSampler(data)
    lone_rest = len(data) > 1 and len(data) % batch_size == 1
    sampler = BatchSampler(order, batch_size, drop_last=shuffle and lone_rest)
    return DataLoader(data, sampler=sampler, batch_size=None)
