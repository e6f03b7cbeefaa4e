"""The best image among those that an attack visits: the one of largest margin, or the nearest misclassified one."""

import torch
from torch import Tensor

from mirst.attacks.base import Minimum
from mirst.attacks.losses import margin
from mirst.nn.logits import Logits, misclassified


class Best:
    """Keeps the visited image of largest margin for each clean image. Before the first visit that is `x`.

    Args:
        x: clean images, `(N, C, H, W)`.
        y: `(N,)`; the true classes or, if `targeted`, the classes to reach.
    """

    def __init__(self, x: Tensor, y: Tensor, *, targeted: bool = False) -> None:
        self.images = x.clone()
        self.margin = x.new_full((len(x),), -torch.inf)
        """Positive where the attack has succeeded; `(N,)`."""
        self._y = y
        self._targeted = targeted

    def update(self, images: Tensor, logits: Tensor, at: Tensor | None = None) -> Tensor:
        """Keep `images` where their margin is larger, and return where it is, `(N,)`.

        Args:
            at: the indices of the images, all by default.
        """
        at = torch.arange(len(self.images), device=images.device) if at is None else at
        return self.keep(images, success(logits, self._y[at], targeted=self._targeted), at)

    def keep(self, images: Tensor, gain: Tensor, at: Tensor) -> Tensor:
        """`update` for images of known margin, `gain`."""
        better = gain > self.margin[at]
        self.margin[at] = torch.where(better, gain, self.margin[at])
        self.images[at] = per_image(better, images, self.images[at])
        return better


def success(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """The margin from the attacker's side, `(N,)`: positive where the attack has succeeded."""
    return -margin(logits, y) if targeted else margin(logits, y)


def reached(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Whether an attack has succeeded, `(N,)`: the prediction differs from `y`, or, if `targeted`, equals `y`."""
    wrong = misclassified(logits, y)
    return ~wrong if targeted else wrong


def per_image(choice: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where` with one choice per image, `(N,)`."""
    return torch.where(choice.view(-1, 1, 1, 1), yes, no)


def clean_minimum(net: Logits, x: Tensor, y: Tensor, *, targeted: bool) -> Minimum:
    """The start of a search: the clean images, at distance 0 where the attack has succeeded already, else infinite."""
    with torch.no_grad():
        wrong = reached(net(x), y, targeted=targeted)
    return Minimum(x.clone(), x.new_full((len(x),), torch.inf).masked_fill(wrong, 0.0))


def nearer(nearest: Minimum, x: Tensor, images: Tensor, wrong: Tensor) -> Minimum:
    """`nearest`, updated with `images` where they are `wrong` and nearer to `x`."""
    distance = (images - x).abs().flatten(1).amax(1)
    better = wrong & (distance < nearest.distances)
    return Minimum(per_image(better, images, nearest.images), torch.where(better, distance, nearest.distances))
