"""Medians of interleaved runs: what slows one candidate slows all."""

import statistics
import time
from collections.abc import Callable, Mapping

Candidates = Mapping[str, Callable[[], object]]


def medians(candidates: Candidates, repeats: int) -> dict[str, float]:
    """Median seconds of each candidate, one warm-up run each, then in turns."""
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_ratios(title: str, candidates: Candidates, repeats: int) -> None:
    """One line per candidate: its time as a multiple of the first one's."""
    result = medians(candidates, repeats)
    base, *_ = result.values()
    print(title)
    for name, seconds in result.items():
        print(f"  {name:32} {seconds / base:6.2f} x   ({seconds * 1000:.1f} ms)")
