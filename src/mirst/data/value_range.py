"""Pixel values, and the range of them that is shown from black to white in 8 bits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ValueRange(NamedTuple):
    """The values that are shown as black and as white.

    >>> print(ValueRange(-100, 240))
    -100 to 240
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.7g} to {self.high:.7g}"


class Intensity(NamedTuple):
    """The range of the values of one image, and where it comes from."""

    source: str
    """What states the range: `8 bits`, `window`, `VOI LUT`, `palette`; empty if the file states none."""
    range: ValueRange
    """The stated range, else the smallest and the largest value."""


EIGHT_BITS = Intensity("8 bits", ValueRange(0, 255))


@dataclass(frozen=True)
class Values:
    """An image as numbers, not yet reduced to 8 bits."""

    pixels: NDArray[Any]
    """`(H, W)` gray or `(H, W, 3)` RGB."""
    stated: Intensity | None = None
    """The range that the file states, `None` where it states none."""
    hidden: NDArray[np.bool_] | None = None
    """`(H, W)`: padding and transparent pixels. They are black and do not count for the range."""
    inverted: bool = False
    """Low values are bright."""

    @property
    def intensity(self) -> Intensity:
        """The stated range, else the true one."""
        return self.stated or Intensity("", self._extent())

    def eight_bit(self, shared: tuple[float, float] | None = None) -> NDArray[np.uint8]:
        """Gray levels, 0 to 255, of the shape of `pixels`; values outside the range are clipped, NaN is black.

        Args:
            shared: the range of the whole data set, for an image that states none.
        """
        low, high = self.stated.range if self.stated else shared or covering([self._extent()])
        values = self.pixels.astype(np.float64)
        shown = ((values - low) / (high - low)).clip(0, 1) if high > low else (values > low).astype(np.float64)
        shown = 1 - shown if self.inverted else shown
        dark = np.isnan(shown)
        if self.hidden is not None:
            dark |= self.hidden.reshape(self.hidden.shape + (1,) * (dark.ndim - 2))
        return np.where(dark, 0, np.round(shown * 255)).astype(np.uint8)

    def _extent(self) -> ValueRange:
        seen = self.pixels if self.hidden is None else self.pixels[~self.hidden]
        seen = seen[np.isfinite(seen)]
        return ValueRange(float(seen.min()), float(seen.max())) if seen.size else ValueRange(0, 0)


def covering(extents: Sequence[ValueRange]) -> ValueRange:
    """The one range with which all images that define none are scaled.

    It is 0 to 1, else 0 to the smallest `2**k - 1` of at least 8 bits, where that contains all values and
    they take a quarter of it or more; else the smallest to the largest value.

    Args:
        extents: smallest and largest value of each image, at least one.

    >>> covering([ValueRange(3, 2100), ValueRange(0, 3977)])
    ValueRange(low=0, high=4095)
    >>> covering([ValueRange(0.02, 0.97)])
    ValueRange(low=0, high=1)
    >>> covering([ValueRange(-1024, 1900)])
    ValueRange(low=-1024, high=1900)
    """
    low, high = hull(extents)
    if low >= 0:
        for top in (1, 2 ** max(8, math.ceil(high).bit_length()) - 1):
            if high <= top <= 4 * (high - low):
                return ValueRange(0, top)
    return ValueRange(low, high)


def hull(ranges: Sequence[ValueRange]) -> ValueRange:
    """The smallest range that contains all of `ranges`, of which there is at least one."""
    return ValueRange(min(one.low for one in ranges), max(one.high for one in ranges))
