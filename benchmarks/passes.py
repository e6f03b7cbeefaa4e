"""How many passes a training step of a defense takes: forward, input gradient and weight gradient count one each."""

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mirst.defenses import Defense
from mirst.nn import reference_mode

COUNTED = 3
"""Input channels of the convolution that is counted."""
BATCH = 16


class _Counter(TorchDispatchMode):
    """Sums the images that pass through the counted convolution, once for each kind of pass."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.convolution.default and args[1].shape[1] == COUNTED:
            self.images += len(args[0])
        elif func is torch.ops.aten.convolution_backward.default and args[2].shape[1] == COUNTED:
            self.images += len(args[0]) * sum(args[-1][:2])
        elif func is torch.ops.aten._convolution_double_backward.default and args[4].shape[1] == COUNTED:
            self.images += len(args[3]) * sum(args[-1])
        return func(*args, **(kwargs or {}))


def passes(defense: Defense) -> int:
    """Passes of the batch in one step, the fewer of those with and without optimizations.

    They are counted on a small network in float64, which no kernel replaces. The comparison of an optimized copy with
    the model, which costs passes too, is not among them: `reference_mode` makes no copy.

    >>> from mirst.defenses import CE
    >>> passes(CE())
    3
    """
    return round(min(_counted(defense), _counted(defense, reference=True)))


def _counted(defense: Defense, reference: bool = False) -> float:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, COUNTED, 3), nn.ReLU(), nn.Conv2d(COUNTED, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    ).double()
    x: Tensor = torch.rand(BATCH, 1, 8, 8, dtype=torch.float64)
    with _Counter() as counter, reference_mode(reference):
        defense(model, x, torch.arange(BATCH) % 2).total.backward()
    return counter.images / BATCH
