"""Layers and backbones."""

from mirst.nn.checkpoint import ModelCard, load_backbone, load_model, save_model
from mirst.nn.drop_max import DropMax2d, drop_max2d, replace_first_max_pool
from mirst.nn.models import MODELS, Normalized, build_model

__all__ = [
    "MODELS",
    "DropMax2d",
    "ModelCard",
    "Normalized",
    "build_model",
    "drop_max2d",
    "load_backbone",
    "load_model",
    "replace_first_max_pool",
    "save_model",
]
