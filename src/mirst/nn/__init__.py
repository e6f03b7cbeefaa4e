"""Layers and backbones."""

from mirst.nn.accelerate.folded_batch_norms import in_fast_layout
from mirst.nn.accelerate.packed_convolutions import packed
from mirst.nn.accelerate.switch import is_optimized, reference_mode
from mirst.nn.backbone import LoadedBackbone, find_weights, load_backbone, replace_head, save_backbone
from mirst.nn.box_fusion import BoxFusion, box_code, box_features
from mirst.nn.checkpoint import CertifiedMetrics, ModelCard, load_model, read_card, save_model
from mirst.nn.ensemble import MAX_MEMBERS, Ensemble
from mirst.nn.factory import import_object, is_factory, library_of, load_factory, package_of
from mirst.nn.layers.drop_max import DropMax2d, drop_max2d, replace_first_max_pool
from mirst.nn.libraries import network_in_words
from mirst.nn.models import MODELS, build_model
from mirst.nn.normalized import Normalized

__all__ = [
    "MAX_MEMBERS",
    "MODELS",
    "BoxFusion",
    "CertifiedMetrics",
    "DropMax2d",
    "Ensemble",
    "LoadedBackbone",
    "ModelCard",
    "Normalized",
    "box_code",
    "box_features",
    "build_model",
    "drop_max2d",
    "find_weights",
    "import_object",
    "in_fast_layout",
    "is_factory",
    "is_optimized",
    "library_of",
    "load_backbone",
    "load_factory",
    "load_model",
    "network_in_words",
    "package_of",
    "packed",
    "read_card",
    "reference_mode",
    "replace_first_max_pool",
    "replace_head",
    "save_backbone",
    "save_model",
]
