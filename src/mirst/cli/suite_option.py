"""The suites of `mirst evaluate`, and how its numbers are printed."""

from enum import StrEnum


class SuiteOption(StrEnum):
    paper = "paper"
    standard = "standard"
    adaptive = "adaptive"
    distances = "distances"
    corruptions = "corruptions"
    boxes = "boxes"


def rounded(value: float) -> str:
    return f"{value:.4f}"
