"""The best of the points that an attack visits, image by image: of largest margin, or nearest."""

import torch
from torch import Tensor

from mirst.attacks.base import Minimum
from mirst.attacks.losses import margin
from mirst.nn.logits import misclassified


class Best:
    """Keeps, for each image, the point of largest margin that it was shown; `x` until the first.

    Args:
        x: clean images, `(N, C, H, W)`.
        y: `(N,)`; the classes to leave, or, if `targeted`, to reach.
    """

    def __init__(self, x: Tensor, y: Tensor, *, targeted: bool = False) -> None:
        self.images = x.clone()
        self.margin = x.new_full((len(x),), -torch.inf)
        """Positive where the attack has succeeded; `(N,)`."""
        self._y = y
        self._targeted = targeted

    def show(self, images: Tensor, logits: Tensor, at: Tensor | None = None) -> Tensor:
        """Take over what is better; `at` names the images, all by default. Returns where it was, `(N,)`."""
        at = torch.arange(len(self.images), device=images.device) if at is None else at
        gain = success(logits, self._y[at], targeted=self._targeted)
        better = gain > self.margin[at]
        self.margin[at] = torch.where(better, gain, self.margin[at])
        self.images[at] = per_image(better, images, self.images[at])
        return better


def success(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """How far an attack is beyond the decision, `(N,)`: positive where it has succeeded."""
    return -margin(logits, y) if targeted else margin(logits, y)


def reached(logits: Tensor, y: Tensor, *, targeted: bool = False) -> Tensor:
    """Whether an attack has succeeded, `(N,)`: the prediction is not `y` any more, or, if `targeted`, is `y`."""
    wrong = misclassified(logits, y)
    return ~wrong if targeted else wrong


def per_image(choice: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`torch.where` with one choice per image, `(N,)`."""
    return torch.where(choice.view(-1, 1, 1, 1), yes, no)


def nearer(found: Minimum, x: Tensor, images: Tensor, wrong: Tensor) -> Minimum:
    """`found`, with `images` where they are `wrong` and nearer to `x`."""
    distance = (images - x).abs().flatten(1).amax(1)
    better = wrong & (distance < found.distances)
    return Minimum(per_image(better, images, found.images), torch.where(better, distance, found.distances))
