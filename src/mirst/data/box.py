"""The box of a lesion in an image."""

import math
from typing import NamedTuple

from mirst.errors import MirstError

PIXEL = 1 - 1e-9
"""The smallest side of a box, up to rounding: smaller ones are shares of the image in place of pixels."""

STRETCH = 1.25
"""Of one side more than of the other, when an image was resized; BUS-BRA states sizes that are up to 1.15 apart."""


class Box(NamedTuple):
    """A box in pixels of an upright image, `x1` and `y1` just outside of it.

    >>> box = Box(10, 20, 50, 40)
    >>> box.width, box.height
    (40, 20)
    """

    x0: float
    y0: float
    x1: float
    y1: float
    frame: tuple[int, int] | None = None
    """Width and height of the image that these pixels belong to, if it was resized since."""

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    def within(self, width: int, height: int) -> "Box":
        """The part of the box inside an image of this size, in pixels of that image.

        Raises:
            MirstError: coordinates that are not numbers, a part of less than a pixel in either direction, or a box of
                an image of another shape.

        >>> Box(10, 20, 50, 40, frame=(100, 100)).within(50, 50)
        Box(x0=5.0, y0=10.0, x1=25.0, y1=20.0, frame=None)
        """
        scale_x, scale_y = self._scale(width, height)
        x0, x1 = max(self.x0 * scale_x, 0.0), min(self.x1 * scale_x, float(width))
        y0, y1 = max(self.y0 * scale_y, 0.0), min(self.y1 * scale_y, float(height))
        if not (x1 - x0 >= PIXEL * min(1, scale_x) and y1 - y0 >= PIXEL * min(1, scale_y)):  # also catches NaN
            raise MirstError(
                f"the box {self.x0:g},{self.y0:g},{self.x1:g},{self.y1:g} covers less than a pixel of the {width} x "
                f"{height} image; give its left, top, right and bottom edge in pixels of the image"
            )
        return Box(x0, y0, x1, y1)

    def in_pixels_of(self, width: int, height: int) -> "Box":
        """The box in pixels of its image, which has this size now.

        Raises:
            MirstError: an image of another shape.

        >>> Box(10, 20, 50, 40, frame=(100, 100)).in_pixels_of(200, 200)
        Box(x0=20.0, y0=40.0, x1=100.0, y1=80.0, frame=None)
        """
        scale_x, scale_y = self._scale(width, height)
        return Box(self.x0 * scale_x, self.y0 * scale_y, self.x1 * scale_x, self.y1 * scale_y)

    def _scale(self, width: int, height: int) -> tuple[float, float]:
        if self.frame is None:
            return 1.0, 1.0
        scale_x, scale_y = width / self.frame[0], height / self.frame[1]
        turned = self.frame == (height, width) and height != width
        if turned or not 1 / STRETCH <= scale_x / scale_y <= STRETCH:
            raise MirstError(
                f"the box or mask belongs to an image of {self.frame[0]} x {self.frame[1]} pixels, but the upright "
                f"image has {width} x {height}; "
                + ("turn the mask as the image is turned" if turned else "give the box or mask of this image")
            )
        return scale_x, scale_y

    def features(self, width: int, height: int) -> tuple[float, float]:
        """Log of height over width, and log of the share of the image that the box covers.

        The box must lie within an image of this size (`within`).

        >>> [round(value, 3) for value in Box(0, 0, 20, 40).features(200, 40)]
        [0.693, -2.303]
        """
        return math.log(self.height / self.width), math.log(self.width * self.height / (width * height))


def parse_box(text: str) -> Box:
    """The box of `x0,y0,x1,y1`.

    Raises:
        MirstError: not four finite numbers in this order.

    >>> parse_box("10, 20, 50, 40").width
    40.0
    """
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError:
        x0 = y0 = x1 = y1 = math.nan
    if not (x0 < x1 and y0 < y1 and all(map(math.isfinite, (x0, y0, x1, y1)))):
        raise MirstError(
            f"{text!r} is not a box; give x0,y0,x1,y1, its left, top, right and bottom edge in pixels of the image"
        )
    return Box(x0, y0, x1, y1)
