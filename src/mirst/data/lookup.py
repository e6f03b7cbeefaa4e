"""Copies of a new image among the images of a data set."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from mirst.data.candidates import Neighbours
from mirst.data.images import decode
from mirst.data.record import ImageFile
from mirst.data.registration import agreement
from mirst.data.similarity import thumbnail
from mirst.data.threads import in_threads


class Lookup:
    """Images among which copies of a new one are found as an audit finds them.

    Args:
        files: at least one.
        fine: score of the fine detail from which two images are copies, as `Thresholds.fine`.

    Raises:
        MirstError: a file that cannot be read.

    >>> from pathlib import Path
    >>> from mirst.data import read_dataset, write_phantoms
    >>> write_phantoms(Path("some"), 3)
    >>> files = [record.file for record in read_dataset("some")]
    >>> Lookup(files, fine=0.5).copies_of(decode(files[4]))
    [4]
    """

    def __init__(self, files: Sequence[ImageFile], fine: float) -> None:
        self._fine = fine
        self._same: defaultdict[str, list[int]] = defaultdict(list)
        thumbnails = []
        for number, (content, small) in enumerate(in_threads(lambda file: _look(decode(file)), files)):
            self._same[content].append(number)
            thumbnails.append(small)
        self._thumbnails = np.array(thumbnails)
        self._neighbours = Neighbours(self._thumbnails)

    def copies_of(self, image: Image.Image) -> list[int]:
        """The numbers of the files with the same pixels, up to size, crop, mirroring, contrast and compression."""
        content, small = _look(image.convert("L"))
        found = set(self._same.get(content, ()))
        if candidates := self._neighbours.of(small):
            others = [min(one.cropped, one.whole) for one in candidates]  # the new image has the largest number
            with threadpool_limits(1):  # the matrix products are too small for several
                scores = agreement(np.concatenate([self._thumbnails, small[None]]), candidates)
            found |= {other for other, score in zip(others, scores, strict=True) if score >= self._fine}
        return sorted(found)


def _look(gray: Image.Image) -> tuple[str, NDArray[np.uint8]]:
    """The content of the image as a key, and its thumbnail."""
    return hashlib.sha256(repr(gray.size).encode() + gray.tobytes()).hexdigest(), thumbnail(gray)
