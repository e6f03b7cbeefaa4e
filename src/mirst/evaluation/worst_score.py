"""The worst score of each image under attack, which AUC under attack ranks.

The score is the log-odds of the positive class against all others. An attack lowers it for an image of the positive
class and raises it for any other image, also where the image is misclassified already. The worst score of an image is
the worst among the clean image and all attacked images.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from mirst.attacks import FAB, Attack, Square, Transfer
from mirst.errors import MirstError
from mirst.evaluation.budget import unwrapped


class PositiveAgainstRest(nn.Module):
    """`model` with two logits, whose difference is the score: all other classes together, and the positive class.

    With two classes the logits are those of `model`, that of the positive class last.

    >>> PositiveAgainstRest(nn.Identity(), positive=0)(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
    tensor([[1., 3.],
            [2., 0.]])
    """

    def __init__(self, model: nn.Module, positive: int) -> None:
        super().__init__()
        self.model = model
        self.positive = positive
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        rest = [k for k in range(logits.shape[1]) if k != self.positive]
        return torch.stack([logits[:, rest].logsumexp(1), logits[:, self.positive]], 1)


def require_positive(positive: str | None) -> None:
    """Raise `MirstError` without a positive class, whose score the AUC under attack ranks."""
    if positive is None:
        raise MirstError(
            "the AUC under attack is that of a positive class, and none of the classes is; leave out --auc, or train "
            "with data.positive"
        )


def pushes_score(attack: Attack) -> bool:
    """Whether an attack makes the score worse after the image is misclassified.

    FAB returns the nearest misclassified image and Square stops at the first one. DLR needs more than the two logits
    of `PositiveAgainstRest`.

    >>> from mirst.attacks import APGD
    >>> pushes_score(APGD()), pushes_score(FAB()), pushes_score(Square())
    (True, False, False)
    """
    return not any(isinstance(part, FAB | Square) or getattr(part, "loss", "") == "dlr" for part in unwrapped(attack))


def pushed(model: nn.Module, attack: Attack, x: Tensor, y: Tensor, positive: int, generator: torch.Generator) -> Tensor:
    """Images that `attack` makes from `x`, `(N, C, H, W)` labelled `y`, `(N,)`, to worsen the score of `model`."""
    if isinstance(attack, Transfer):
        attack = replace(attack, source_model=PositiveAgainstRest(attack.source_model, positive))
    return attack(PositiveAgainstRest(model, positive), x, (y == positive).long(), generator=generator)


def worse(first: Tensor, second: Tensor, is_positive: Tensor) -> Tensor:
    """The worse of two scores for each image, `(N,)`: the lower one for a positive image, the higher one for another.

    >>> worse(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0]), torch.tensor([True, False]))
    tensor([1., 2.])
    """
    return torch.where(is_positive.to(first.device), torch.minimum(first, second), torch.maximum(first, second))
