"""The kernels for CUDA, run number by number in triton's interpreter: no GPU is needed."""

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from mirst.nn.accelerate import drop_max_fused
from tests.nn.accelerate.helpers import FORMATS, GEOMETRIES, assert_as_plain, drawn

KINDS = ["all different", "ties", "not finite"]


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed; CUDA builds of torch bring it")
def test_values_and_gradient_equal_the_plain_ones():
    """In a process of its own, since triton reads the variable while it is imported."""
    command = [sys.executable, "-m", "tests.nn.accelerate.test_drop_max_triton"]
    root, variables = Path(__file__).parents[3], {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "60 cases", done.stderr


def compare_with_plain() -> None:
    from mirst.nn.accelerate import drop_max_triton

    drop_max_fused.kernels_for = lambda device: drop_max_triton
    cases = list(itertools.product(GEOMETRIES, FORMATS, [torch.float32, torch.float64], KINDS))
    for geometry, memory_format, dtype, kind in cases:
        assert_as_plain(drawn((2, 3, 9, 14), 0, kind, dtype).to(memory_format=memory_format), geometry)
    print(len(cases), "cases")


if __name__ == "__main__":
    compare_with_plain()
