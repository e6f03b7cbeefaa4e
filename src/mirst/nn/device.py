"""Where models run."""

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter of `model`; the CPU if it has no parameters."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def default_device() -> torch.device:
    """The GPU where torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
