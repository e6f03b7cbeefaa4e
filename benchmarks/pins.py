"""`python -m benchmarks.pins`: whether every installed distribution is the one that constraints.txt pins."""

import re
import sys
from importlib.metadata import distributions
from pathlib import Path

PINS = Path(__file__).parents[1] / "constraints.txt"
TOOLS = {"mirst", "pip", "setuptools", "wheel"}
"""The project itself, and what a virtual environment comes with."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    pins = {normal(name): version for name, version in (line.split("==") for line in PINS.read_text().split())}
    installed = {normal(one.name): one.version.partition("+")[0] for one in distributions()}
    others = {name: version for name, version in installed.items() if name not in TOOLS and pins.get(name) != version}
    for name, version in sorted(others.items()):
        print(f"{name} {version} is installed; constraints.txt pins {pins.get(name, 'none of it')}")
    print(f"{len(installed) - len(others)} of {len(installed)} installed distributions are as they are pinned")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
