import subprocess
import sys

import pytest

LOOP = """
import resource
import numpy as np
from mirst.allocator import keep_freed_memory
{call}
def work():
    for _ in range(40):
        blocks = [np.ones(1 << 20) for _ in range(3)]
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(call):
    run = subprocess.run(
        [sys.executable, "-c", LOOP.format(call=call)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is the C library of Linux")
def test_freed_memory_is_used_again_without_page_faults():
    assert page_faults("keep_freed_memory()") < page_faults("") / 20
