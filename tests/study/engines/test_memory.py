import subprocess
import sys

import numpy as np
import pytest
import torch

from mirst.study.engines.memory import out_of_memory, starved_processes


@pytest.mark.parametrize(
    ("hoard", "told"),
    [
        (lambda: torch.empty(2**50), "out of memory (tried to allocate 4503599627370496 bytes)"),
        (lambda: np.empty(2**50), "out of memory (unable to allocate 8.00 PiB)"),
        (lambda: bytearray(2**62), "out of memory"),
        (lambda: torch.ones(2) @ torch.ones(3), None),
    ],
)
def test_lack_of_memory_is_told_from_other_errors(hoard, told):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        hoard()
    assert out_of_memory(caught.value) == told


def test_the_gpus_own_error_is_one():
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    assert out_of_memory(error) == "out of memory (tried to allocate 2.00 GiB)"


def test_linux_counts_whom_it_kills_and_takes_workers_first():
    if starved_processes() is None:
        pytest.skip("this system does not count them")
    command = (
        "from mirst.study.engines.memory import RANK, starve_first; starve_first(); print(RANK.read_text().strip())"
    )
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "500"
