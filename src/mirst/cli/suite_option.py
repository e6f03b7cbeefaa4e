"""The suites of `mirst evaluate`, and how its numbers and warnings are printed."""

from collections.abc import Sequence
from enum import StrEnum

import typer


class SuiteOption(StrEnum):
    paper = "paper"
    standard = "standard"
    adaptive = "adaptive"
    distances = "distances"
    corruptions = "corruptions"
    boxes = "boxes"


def rounded(value: float) -> str:
    return f"{value:.4f}"


def print_warnings(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        typer.echo(f"WARNING: {sentence}")
