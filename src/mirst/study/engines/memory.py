"""The memory of this process, and its lack."""

import re
import sys
from contextlib import suppress
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
EVENTS, RANK = Path("/proc/vmstat"), Path("/proc/self/oom_score_adj")


def peak_memory() -> int:
    """Largest resident set in bytes, libraries included, since the start or `forget_peak_memory`; 0 where unknown."""
    # getrusage of a process that was spawned begins with the peak of its parent, so Linux is asked itself
    kilobytes = _entry(STATUS, "VmHWM:")
    if kilobytes is not None:
        return 1024 * kilobytes
    if resource is None:
        return 0
    spawned = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return spawned if sys.platform == "darwin" else 1024 * spawned


def library_memory() -> int:
    """Bytes of the resident set that are pages of files, which processes of one program share; 0 where unknown."""
    return 1024 * (_entry(STATUS, "RssFile:") or 0)


def _entry(file: Path, key: str) -> int | None:
    """The number after `key` in a file of Linux; `None` on other systems."""
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return None


def forget_peak_memory() -> None:
    """Begin anew with what is held now; without effect where the system knows no way."""
    with suppress(OSError):
        CLEAR.write_text("5", encoding="utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def starved_processes() -> int | None:
    """How many processes Linux has killed for lack of memory since it started; `None` where it does not say."""
    return _entry(EVENTS, "oom_kill ")


def starve_first() -> None:
    """Let Linux, when memory is short, kill this process rather than the study that can begin it again."""
    with suppress(OSError):
        RANK.write_text("500", encoding="utf-8")


def out_of_memory(error: BaseException) -> str | None:
    """How Python, the GPU or torch on a CPU, whose error is like any other, ran out of memory, if that is it."""
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if not refused and not isinstance(error, MemoryError | torch.OutOfMemoryError):
        return None
    amount = re.search(r"(tried|unable) to allocate [\d.]+ ?\w+", str(error), re.IGNORECASE)
    return f"out of memory ({amount[0][0].lower()}{amount[0][1:]})" if amount else "out of memory"
