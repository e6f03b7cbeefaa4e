"""Small real models and images that many tests share."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mirst.data import write_phantoms
from tests.helpers import small_cnn

torch.set_num_threads(1)


@pytest.fixture
def model() -> nn.Module:
    return small_cnn().eval()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(6, 1, 16, 16, generator=generator)
    x[0, :, :4] = 0.0
    x[1, :, :4] = 1.0
    return x, torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder with 24 phantoms."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, 12, seed=0)
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with BUSI and BUS-BRA: `$MIRST_DATA`, or `shared/data` beside the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MIRST_DATA", default))
    if not (folder / "busi").is_dir():
        pytest.skip(f"no real ultrasound at {folder}; set MIRST_DATA to run this test")
    return folder
