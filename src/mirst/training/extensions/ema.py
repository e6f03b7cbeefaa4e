"""Exponential moving average of the weights."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mirst.errors import MirstError
from mirst.training.extensions.base import Extension


@dataclass(kw_only=True)
class EMA(Extension):
    """`sum_i (1 - decay) * decay^(t - i) * w_i / (1 - decay^t)` over the weights `w_1 ... w_t` after each step.

    The division corrects the bias towards the start, as in Adam, so the initial weights do not count. Floating-point
    buffers, such as the statistics of batch norms, are averaged like weights; other buffers are copied.

    Raises:
        MirstError: a decay outside [0, 1).

    >>> model, ema = nn.Linear(1, 1, bias=False), EMA(decay=0.5)
    >>> ema.start(model)
    >>> for weight in (1.0, 4.0):
    ...     _ = nn.init.constant_(model.weight, weight)
    ...     ema.after_step(model)
    >>> ema.evaluation_weights()["weight"].item()
    3.0
    """

    decay: float = 0.99
    """Share of the old average in the new one; the average reaches back about `1 / (1 - decay)` steps."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise MirstError(f"decay is {self.decay}; it must be at least 0 and below 1")

    def start(self, model: nn.Module) -> None:
        self._steps = 0
        self._average = {name: tensor.clone() for name, tensor in _tensors(model).items()}

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        self._steps += 1
        share = (1 - self.decay) / (1 - self.decay**self._steps)
        for name, tensor in _tensors(model).items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor, share)
            else:
                self._average[name].copy_(tensor)

    def evaluation_weights(self) -> dict[str, Tensor]:
        return self._average

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for name, tensor in state["average"].items():
            self._average[name].copy_(tensor)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
