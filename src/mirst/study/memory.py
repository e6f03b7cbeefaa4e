"""The peak memory of this process."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory() -> int:
    """Largest resident set in bytes, libraries included, since the start or `forget_peak_memory`."""
    # getrusage of a process that was spawned begins with the peak of its parent, so Linux is asked itself
    with suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def forget_peak_memory() -> None:
    """Begin anew with what is held now; without effect where the system knows no way."""
    with suppress(OSError):
        CLEAR.write_text("5", encoding="utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
