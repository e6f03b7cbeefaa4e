"""Layers and backbones."""

from mirst.nn.backbone import LoadedBackbone, find_weights, load_backbone, replace_head, save_backbone
from mirst.nn.checkpoint import ModelCard, load_model, read_card, save_model
from mirst.nn.drop_max import DropMax2d, drop_max2d, replace_first_max_pool
from mirst.nn.factory import is_factory, load_factory, package_of
from mirst.nn.fast import is_fast, plainly
from mirst.nn.folded import in_fast_layout
from mirst.nn.models import MODELS, Normalized, build_model
from mirst.nn.packed import packed

__all__ = [
    "MODELS",
    "DropMax2d",
    "LoadedBackbone",
    "ModelCard",
    "Normalized",
    "build_model",
    "drop_max2d",
    "find_weights",
    "in_fast_layout",
    "is_factory",
    "is_fast",
    "load_backbone",
    "load_factory",
    "load_model",
    "package_of",
    "packed",
    "plainly",
    "read_card",
    "replace_first_max_pool",
    "replace_head",
    "save_backbone",
    "save_model",
]
