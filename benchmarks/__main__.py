"""`make bench`: every speed target as a ratio in one run, printed and written to `docs/results/speed.md`."""

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.attacks import attacks
from benchmarks.certificates import certificates
from benchmarks.cost import cost
from benchmarks.peers import peers
from benchmarks.pooling import pooling
from benchmarks.startup import startup
from benchmarks.steps import certified_steps, floors, memory, steps, threads
from benchmarks.suite import suite
from mirst.allocator import keep_freed_memory
from mirst.data.threads import available_cores

PAGE = Path("docs/results/speed.md")
SECTIONS: tuple[tuple[int, Callable[[], Iterator[str]]], ...] = (
    (1, pooling),
    (2, pooling),
    (2, peers),
    (1, attacks),
    (1, steps),
    (1, floors),
    (2, floors),
    (2, threads),
    (1, certified_steps),
    (2, certificates),
    (1, memory),
    (1, suite),
    (1, startup),
    (1, cost),
)
"""Each with torch's threads."""


def machine() -> str:
    model = next((line for line in _cpuinfo() if line.startswith("model name")), platform.processor())
    return f"{model.split(':')[-1].strip()}, {available_cores()} cores, torch {torch.__version__}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def main() -> None:
    keep_freed_memory()  # as the command line does
    head = (
        "# Speed\n\n`make bench` writes this page: ratios of medians over interleaved runs.\n"
        f"Measured on: {machine()}.\n"
    )
    print(head)
    texts = [head]
    for count, run in SECTIONS:
        torch.set_num_threads(count)
        for text in run():
            print(text, flush=True)
            texts.append(text)
    PAGE.write_text("\n".join(texts), encoding="utf-8")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
