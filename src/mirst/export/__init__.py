"""A trained model in the formats of other programs."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mirst.errors import MirstError
from mirst.export.formats import to_onnx, to_safetensors, to_torch_export
from mirst.export.hub_folder import to_hub_folder
from mirst.export.monai_bundle import to_monai_bundle
from mirst.nn import ModelCard, load_model, reference_mode

__all__ = ["FORMATS", "HUB_FOLDER", "SUFFIXES", "export_model"]

HUB_FOLDER = "hub-folder"
"""The value of `to` for a folder that a model hub accepts."""

FORMATS: dict[str, Callable[[nn.Module, ModelCard, Path], None]] = {
    "onnx": to_onnx,
    "torch-export": to_torch_export,
    "safetensors": to_safetensors,
    "monai-bundle": to_monai_bundle,
}
"""Writers by the name of their format: of a network with its card, to a path."""

SUFFIXES = {"onnx": (".onnx",), "torch-export": (".pt2",), "safetensors": (".safetensors",)}
"""Of the files of each format; `monai-bundle` and `hub-folder` are folders."""


def export_model(
    checkpoint: Path, to: str, out: Path, trusted: str | None = None, *, license: str | None = None
) -> Path:
    """Write the model of a checkpoint and its card to `out`.

    Every format except `safetensors` and `hub-folder` contains the whole model, from
    `(N, channels, size, size)` images in [0, 1] to `(N, classes)` logits, with input normalisation and drop-max. A
    model that takes a box has a second input, `box`: `(N, 2)` log aspect and log area, NaN where no box is known.

    Args:
        to: a key of `FORMATS`, or `hub-folder`: the checkpoint itself, its model card and a `config.json`.
        out: a file; for `monai-bundle` and `hub-folder` a new folder.
        trusted: as for `mirst.nn.load_model`; `hub-folder` builds no model and needs none.
        license: of the weights, for `hub-folder`: an identifier of the hub, such as `apache-2.0`.

    Raises:
        MirstError: a checkpoint that cannot be read, an unknown format, one whose extra is not installed, a folder that
            exists already, a model that takes a box as a MONAI bundle, or a checkpoint without its `MODEL_CARD.md` as a
            folder for the hub.

    >>> from mirst.nn import ModelCard, build_model, save_model
    >>> card = ModelCard(
    ...     model="resnet_tiny", drop_max=False, channels=1, size=32, classes=("benign", "malignant"),
    ...     positive="malignant", threshold=0.0, defense="CE()",
    ... )
    >>> save_model("model.safetensors", build_model("resnet_tiny", 1, 2), card)
    >>> export_model(Path("model.safetensors"), "safetensors", Path("weights.safetensors")).name
    'weights.safetensors'
    """
    if to == HUB_FOLDER:
        to_hub_folder(checkpoint, out, license)
        return out
    if to not in FORMATS:
        raise MirstError(f"--to is {to}; choose {', '.join((*FORMATS, HUB_FOLDER))}")
    if license is not None:
        raise MirstError("--license is for --to hub-folder; leave it out")
    model, card = load_model(checkpoint, trusted)
    with reference_mode(), torch.no_grad(), warnings.catch_warnings():  # in operations that every exporter knows
        warnings.simplefilter("ignore", FutureWarning)  # from torch's own code
        warnings.filterwarnings("ignore", "# The axis name: batch will not be used")  # two inputs share it
        FORMATS[to](model, card, out)
    return out
