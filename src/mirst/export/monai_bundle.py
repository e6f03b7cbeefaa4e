"""A trained model as a MONAI bundle: a folder that MONAI runs without mirst."""

import json
import shutil
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from scipy.special import expit
from torch import nn

from mirst.errors import MirstError
from mirst.export.formats import to_torch_export
from mirst.files import new_folder, write_text
from mirst.nn import ModelCard

SKELETON = Path(__file__).with_name("skeleton")
"""Files that are the same in every bundle. They read the details of the model from `configs/metadata.json`."""
SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
MONAI = "1.6.1"
RUNNERS = {"pytorch-ignite": "0.5.5", "fire": "0.7.1"}
"""MONAI, and the packages that it needs to run a bundle, in tested versions. Writing a bundle does not need them."""


def to_monai_bundle(model: nn.Module, card: ModelCard, out: Path) -> None:
    """Write the new folder `out`. On an error no partial folder remains.

    Raises:
        MirstError: a model that takes a box, or a folder that exists already.
    """
    if card.box != "none" or card.view != "whole":
        what = "takes a box" if card.box != "none" else "sees crops around lesions"
        raise MirstError(
            f"--to monai-bundle cannot contain a model that {what}, since its pipeline reads whole images only; use "
            "onnx or torch-export"
        )
    metadata = _metadata(card, out.name)
    if card.certified:
        metadata["certified"] = card.entries()["certified"]
    with new_folder(out) as bundle:
        shutil.copytree(SKELETON, bundle, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        to_torch_export(model, card, bundle / "models" / "model.pt2")
        weights = {f"program.{name}": value for name, value in model.state_dict().items()}
        torch.save(weights, bundle / "models" / "model.pt")  # where MONAI's tools look for weights
        write_text(bundle / "configs" / "metadata.json", json.dumps(metadata, indent=4, ensure_ascii=False) + "\n")
        write_text(bundle / "docs" / "README.md", _readme(card, metadata))
        write_text(bundle / "LICENSE", _license())


def _metadata(card: ModelCard, name: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": name,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by mirst {version('mirst')}"},
        "monai_version": MONAI,
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": RUNNERS | {"pillow": version("pillow")},
        "task": f"Classification of images: {', '.join(card.classes)}",
        "description": f"{_network(card)}, trained with the defense {card.defense}",
        "authors": f"not specified; trained and exported with mirst {version('mirst')}",
        "copyright": "scripts and configs: Apache License 2.0, see LICENSE; "
        "the weights belong to those who trained them",
        "intended_use": "Research. Not a medical device.",
        "image_classes": f"{_colour(card)}, letterboxed, values in [0, 1]",
        "pred_classes": f"logits of {', '.join(card.classes)}",
        "operating_point": {
            "classes": list(card.classes),
            "positive": card.positive,
            "threshold": card.threshold,
        },
        "picture_range": card.value_range,
        "network_data_format": {"inputs": {"image": _image(card)}, "outputs": {"pred": _logits(card)}},
    }


def _image(card: ModelCard) -> dict[str, Any]:
    return {
        "type": "image",
        "format": "magnitude",
        "num_channels": card.channels,
        "spatial_shape": [card.size, card.size],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {"0": "gray"} if card.channels == 1 else {"0": "red", "1": "green", "2": "blue"},
    }


def _logits(card: ModelCard) -> dict[str, Any]:
    return {
        "type": "logits",
        "format": "classes",
        "num_channels": len(card.classes),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(number): name for number, name in enumerate(card.classes)},
    }


def _network(card: ModelCard) -> str:
    one = f"{card.network}{' with drop-max in place of its first max-pool' if card.drop_max else ''}"
    return one if card.members == 1 else f"an ensemble of {card.members} x {one}"


def _colour(card: ModelCard) -> str:
    return "gray" if card.channels == 1 else "RGB"


def _readme(card: ModelCard, metadata: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("mirst.export"), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    return environment.get_template("README.md.j2").render(
        card=card, metadata=metadata, network=_network(card), colour=_colour(card), cut=float(expit(card.threshold))
    )


def _license() -> str:
    text = distribution("mirst").read_text("licenses/LICENSE")
    assert text is not None  # pyproject.toml names it
    return text
