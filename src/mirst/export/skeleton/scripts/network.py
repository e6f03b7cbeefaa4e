"""The exported network in the form that MONAI's engines use."""

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass


class ExportedNetwork(nn.Module):
    """From `(N, channels, size, size)` images in [0, 1] to `(N, classes)` logits, input normalisation included.

    It is always in eval mode; `train` has no effect.

    Args:
        path: of a `.pt2` file, a program of torch.export.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._program = torch.export.load(path)
        self.program = self._program.module()
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.program(images.as_subclass(Tensor))  # MONAI's tensors carry more than pixels
        return logits

    def train(self, mode: bool = True) -> "ExportedNetwork":
        return self

    def to(self, device: torch.device | str) -> "ExportedNetwork":  # type: ignore[override]
        self.program = move_to_device_pass(self._program, device).module()  # also devices written into the program
        return self
