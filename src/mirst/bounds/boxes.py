"""A box of values: all that the values of one step can be, coordinate by coordinate."""

import torch
from torch import Tensor


class Box:
    """Lower and upper bounds of a value, as centre and radius or as ends, whichever is at hand; in training also the
    value at the clean images, stacked in front so that one pass computes both.

    Args:
        points: `(N, ...)` centres; or `(2N, ...)`, the clean values and the centres.
        radius: `(N, ...)`, not negative.
        ends: `(2N, ...)`, lower and upper bounds; or `(3N, ...)`, the clean values and these. Either `points` and
            `radius` or `ends` are given.
    """

    def __init__(
        self, has_clean: bool, points: Tensor | None = None, radius: Tensor | None = None, ends: Tensor | None = None
    ) -> None:
        self.has_clean = has_clean
        self._ball = None if points is None or radius is None else (points, radius)
        self._ends = ends

    @classmethod
    def between(cls, lower: Tensor, upper: Tensor, clean: Tensor | None = None) -> "Box":
        """The box of these ends."""
        return cls(clean is not None, ends=torch.cat([*([] if clean is None else [clean]), lower, upper]))

    @property
    def ball(self) -> tuple[Tensor, Tensor]:
        """`points` and `radius`."""
        if self._ball is None:
            *clean, lower, upper = self.parts()
            centre = (lower + upper).mul_(0.5)
            self._ball = (torch.cat([*clean, centre]) if clean else centre), (upper - lower).mul_(0.5)
        return self._ball

    @property
    def radius(self) -> Tensor:
        """`(N, ...)`."""
        return self.ball[1]

    @property
    def ends(self) -> Tensor:
        """The clean values, if there are any, the lower and the upper bounds, along the first axis."""
        if self._ends is None:
            assert self._ball is not None  # one of the two is given
            points, radius = self._ball
            clean, centre = self._split(points)
            self._ends = torch.cat([*clean, centre - radius, centre + radius]) if clean else _around(centre, radius)
        return self._ends

    def has_ends(self) -> bool:
        """Whether the ends are at hand."""
        return self._ends is not None

    def parts(self) -> tuple[Tensor, ...]:
        """`ends`, one by one."""
        return self.ends.chunk(2 + self.has_clean)

    @property
    def centre(self) -> Tensor:
        """`(N, ...)`."""
        return self._split(self.ball[0])[1]

    @property
    def clean(self) -> Tensor | None:
        """The values at the clean images, `(N, ...)`."""
        if not self.has_clean:
            return None
        return self.parts()[0] if self._ball is None else self._split(self._ball[0])[0][0]

    @property
    def size(self) -> Tensor:
        """An upper bound of the absolute value, `(N, ...)`."""
        return self.centre.abs() + self.radius

    def _split(self, points: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        *clean, centre = points.chunk(1 + self.has_clean)
        return tuple(clean), centre


def _around(centre: Tensor, radius: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return torch.cat([centre - radius, centre + radius])
    ends = centre.new_empty(2 * len(centre), *centre.shape[1:])
    torch.sub(centre, radius, out=ends[: len(centre)])
    torch.add(centre, radius, out=ends[len(centre) :])
    return ends
