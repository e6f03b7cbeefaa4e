"""A trained model in the formats of other programs."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mirst.errors import MirstError
from mirst.export.formats import to_onnx, to_safetensors, to_torch_export
from mirst.export.monai_bundle import to_monai_bundle
from mirst.nn import ModelCard, load_model, reference_mode

__all__ = ["FORMATS", "SUFFIXES", "export_model"]

FORMATS: dict[str, Callable[[nn.Module, ModelCard, Path], None]] = {
    "onnx": to_onnx,
    "torch-export": to_torch_export,
    "safetensors": to_safetensors,
    "monai-bundle": to_monai_bundle,
}
"""Writers by the name of their format: of a network with its card, to a path."""

SUFFIXES = {"onnx": (".onnx",), "torch-export": (".pt2",), "safetensors": (".safetensors",)}
"""Of the files of each format; `monai-bundle` is a folder."""


def export_model(checkpoint: Path, to: str, out: Path, trusted: str | None = None) -> Path:
    """Write the model of a checkpoint and its card to `out`.

    Every format except `safetensors` contains the whole model, from
    `(N, channels, size, size)` images in [0, 1] to `(N, classes)` logits, with input normalisation and drop-max. A
    model that takes a box has a second input, `box`: `(N, 2)` log aspect and log area, NaN where no box is known.

    Args:
        to: a key of `FORMATS`.
        out: a file; for `monai-bundle` a new folder.
        trusted: as for `mirst.nn.load_model`.

    Raises:
        MirstError: a checkpoint that cannot be read, an unknown format, one whose extra is not installed, a folder that
            exists already, or a model that takes a box as a MONAI bundle.

    >>> from mirst.nn import ModelCard, build_model, save_model
    >>> card = ModelCard(
    ...     model="resnet_tiny", drop_max=False, channels=1, size=32, classes=("benign", "malignant"),
    ...     positive="malignant", threshold=0.0, defense="CE()",
    ... )
    >>> save_model("model.safetensors", build_model("resnet_tiny", 1, 2), card)
    >>> export_model(Path("model.safetensors"), "safetensors", Path("weights.safetensors")).name
    'weights.safetensors'
    """
    if to not in FORMATS:
        raise MirstError(f"--to is {to}; choose {', '.join(FORMATS)}")
    model, card = load_model(checkpoint, trusted)
    with reference_mode(), torch.no_grad(), warnings.catch_warnings():  # in operations that every exporter knows
        warnings.simplefilter("ignore", FutureWarning)  # from torch's own code
        warnings.filterwarnings("ignore", "# The axis name: batch will not be used")  # two inputs share it
        FORMATS[to](model, card, out)
    return out
