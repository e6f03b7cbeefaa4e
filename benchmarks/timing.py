"""Medians of interleaved runs, what slows one candidate slows all, and sections of `docs/results/speed.md`."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Candidates = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Target:
    """What the cheapest of `who` takes is at most `limit` times what the cheapest of `others` takes."""

    who: tuple[str, ...]
    others: tuple[str, ...]
    limit: float


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


def timed(title: str, candidates: Candidates, repeats: int, targets: tuple[Target, ...] = ()) -> str:
    """A section with the medians of the candidates, as multiples of the first one's."""
    return section(
        f"{title}; {torch.get_num_threads()} thread(s), medians of {repeats}",
        medians(candidates, repeats),
        "ms",
        1000,
        targets,
    )


def section(title: str, values: Mapping[str, float], unit: str, scale: float, targets: tuple[Target, ...] = ()) -> str:
    """Values as multiples of the first one, and how they stand to the targets."""
    base = next(iter(values.values()))
    lines = [f"### {title}", "", f"| | ratio | {unit} |", "|---|---|---|"]
    lines += [f"| {name} | {value / base:.2f} | {value * scale:.4g} |" for name, value in values.items()]
    for target in targets:
        ratio = min(values[one] for one in target.who) / min(values[other] for other in target.others)
        lines += [
            "",
            f"{' or '.join(target.who)} / {' or '.join(target.others)}: **{ratio:.2f}**, target at most "
            f"{target.limit:.2f}: {'reached' if ratio <= target.limit else 'missed'}.",
        ]
    return "\n".join([*lines, ""])
