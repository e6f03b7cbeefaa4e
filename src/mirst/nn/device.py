"""Where models run."""

import os

import torch
from torch import Tensor, nn

from mirst.errors import MirstError

VARIABLE = "MIRST_DEVICE"
"""Environment variable with the name of a device; `--device` sets it, so that workers have it too."""
DEVICES = ("auto", "cpu", "cuda", "mps")


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter of `model`; the CPU if it has no parameters."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def default_device() -> torch.device:
    """The device that `MIRST_DEVICE` names; for `auto`, the default, the GPU where torch sees a CUDA one, else the CPU.

    Apple's GPU (`mps`) is taken only by name, because it has no 64-bit floats.

    Raises:
        MirstError: an unknown device, or one that torch does not see here.
    """
    name = os.environ.get(VARIABLE, "auto")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if name not in there:
        raise MirstError(f"the device is {name}; choose one of {', '.join(DEVICES)} with --device or {VARIABLE}")
    if not there[name]:
        seen = " or ".join(device for device, is_there in there.items() if is_there)
        raise MirstError(f"torch sees no {name} device on this machine; choose {seen} or auto with --device")
    return torch.device(name)


def where_float64(x: Tensor) -> Tensor:
    """`x`, on the CPU if its device has no 64-bit floats."""
    return x.cpu() if x.device.type == "mps" else x


def require_float64(device: torch.device) -> None:
    """Before work that needs 64-bit floats.

    Raises:
        MirstError: the device has none.
    """
    if device.type == "mps":
        raise MirstError("certificates and certified training need 64-bit floats, which mps lacks; use --device cpu")
