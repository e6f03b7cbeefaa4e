"""A checkpoint that no test needs to be good."""

import pytest
import torch

from mirst.nn import build_model, save_model
from tests.helpers import CARD


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model" / "model.safetensors"
    save_model(path, build_model("resnet_tiny", 1, 2, drop_max=True), CARD)
    return path
