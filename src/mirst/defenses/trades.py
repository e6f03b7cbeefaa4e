"""TRADES."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirst.attacks.descent import gradient_of, last
from mirst.batches import checked_batch
from mirst.defenses.base import LossTerms, weighted_cross_entropy
from mirst.defenses.ce import CE
from mirst.defenses.crafting import Crafting, require_weight, training_logits

START_NOISE = 0.001
"""Standard deviation: at the clean image itself the divergence has no gradient."""


@dataclass(frozen=True, kw_only=True)
class TRADES(Crafting):
    """`CE(f(x), y) + weight * KL(p(x) || p(x'))`, `x'` of largest divergence in the ball (Zhang et al. 2019).

    The search starts at `x` with a little Gaussian noise, which may leave [0, 1] until the first step; `p(x)` is
    trained in both terms. With `joint_batch=False` the loss is that of the authors' code.

    Raises:
        MirstError: a field out of range, on construction; images outside [0, 1], on call.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> total, terms = TRADES(weight=6.0)(model, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    >>> total.backward()
    >>> sorted(terms)
    ['clean', 'divergence']
    """

    weight: float = 1.0
    """Weight of the divergence, beta in the source."""
    joint_batch: bool = True
    """Clean and adversarial images are passed through the model as one batch, so they share batch-norm statistics."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_weight("weight", self.weight)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> LossTerms:
        if self.weight == 0:
            return CE(class_weights=self.class_weights, label_smoothing=self.label_smoothing)(model, x, y)
        x, y = checked_batch(x, y)
        logits, attacked = training_logits(model, [x, self._craft(model, x, y, generator)], self.joint_batch)
        clean = weighted_cross_entropy(logits, y, self.class_weights, self.label_smoothing)
        gap = divergence(logits, attacked).mean()
        return LossTerms(clean + self.weight * gap, {"clean": clean.item(), "divergence": gap.item()})

    def _craft(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        device = x.device if generator is None else generator.device
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)
        start = x + START_NOISE * noise
        with self._crafting(model, x, y) as net:
            with torch.no_grad():
                clean = net(x)
            return last(self._iterates(gradient_of(lambda images: divergence(clean, net(images))), x, start=start))


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """`KL(softmax(logits) || softmax(others))` per image, `(N,)`."""
    log_p, log_q = F.log_softmax(logits, 1), F.log_softmax(others, 1)
    return (log_p.exp() * (log_p - log_q)).sum(1)
