"""Training time against image count, size, PGD steps T and instances m, and a formula.

CE, RST and MIRST train a resnet_tiny in batches of 16. The formula is fitted to some points and judged by others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import medians
from mirst.defenses import CE, MIRST, RST, Defense
from mirst.nn import build_model
from mirst.training import Training, TrainingRun

BATCH, SIZES, STEPS, INSTANCES, COUNTS = 16, (32, 48, 64, 96, 128), (1, 2, 5, 10, 20), (1, 2, 4, 8), (16, 32, 128, 256)
REPEATS = 3


@dataclass(frozen=True)
class Point:
    """One setting; CE is without steps and instances."""

    size: int = 64
    steps: int = 0
    instances: int = 0
    count: int = 4 * BATCH

    @property
    def defense(self) -> Defense:
        if not self.instances:
            return CE()
        if self.instances == 1:
            return RST(steps=self.steps)
        last = tuple(range(self.steps - self.instances + 1, self.steps + 1))
        return MIRST(steps=self.steps, instances=last, weights=(1 / self.instances,) * self.instances)

    def __str__(self) -> str:
        return f"{self.size} px, T {self.steps}, m {self.instances}, {self.count} images"


BY_SIZE = [Point(size, steps, m) for size in SIZES for steps, m in ((0, 0), (10, 1), (10, 4))]
BY_STEPS = [Point(steps=steps, instances=1) for steps in STEPS]
BY_INSTANCES = [Point(steps=10, instances=m) for m in INSTANCES]
HELD_OUT = [
    Point(48, 5, 2),
    Point(96, 2, 1),
    Point(64, 20, 8),
    Point(96, 5, 4),
    Point(128, 2, 2),
    Point(80),
    Point(80, 8, 4),
]
BY_COUNT = [Point(steps=steps, instances=m, count=count) for steps, m in ((0, 0), (10, 1), (10, 4)) for count in COUNTS]


def measured(points: list[Point]) -> dict[Point, float]:
    """Seconds per image of each, from interleaved runs."""
    model = build_model("resnet_tiny", 1, 2)
    settings = Training(lr=1e-12)
    runs = {point: TrainingRun(model, point.defense, settings) for point in points}

    def epoch(point: Point) -> None:
        x = torch.rand(point.count, 1, point.size, point.size)
        y = torch.arange(point.count) % 2
        data = zip(x.split(BATCH), y.split(BATCH), strict=True)
        runs[point].train_epoch(data, settings.epochs - 1)  # at full eps

    seconds = medians({str(point): lambda point=point: epoch(point) for point in points}, REPEATS)
    return {point: seconds[str(point)] / point.count for point in points}


def terms(points: list[Point]) -> NDArray[np.float64]:
    """Of the formula, one row per point: crafting and training by pixel, then what small images cost all the same."""
    return np.array([[p.size**2 * p.steps, p.size**2 * (1 + p.instances), p.steps, 1] for p in points], float)


def fit(seconds: dict[Point, float]) -> NDArray[np.float64]:
    """Coefficients of the least relative squares."""
    values = np.array(list(seconds.values()))
    solution, *_ = np.linalg.lstsq(terms(list(seconds)) / values[:, None], np.ones(len(values)), rcond=None)
    return solution


def cost() -> Iterator[str]:
    """Every point beside the formula, then the formula and how well it does."""
    seconds = measured(list(dict.fromkeys([*BY_SIZE, *BY_STEPS, *BY_INSTANCES, *HELD_OUT, *BY_COUNT])))
    fitted = {point: value for point, value in seconds.items() if point not in {*HELD_OUT, *BY_COUNT}}
    coefficients = fit(fitted)
    formula = dict(zip(seconds, terms(list(seconds)) @ coefficients, strict=True))
    title = (
        f"Training time of resnet_tiny, batches of {BATCH}; {torch.get_num_threads()} thread(s), medians of {REPEATS}"
    )
    rows = [
        f"| {point} | {1000 * value:.2f} | {1000 * formula[point]:.2f} | {'held out' if point in HELD_OUT else ''} |"
        for point, value in seconds.items()
    ]
    values = np.array(list(fitted.values()))
    residuals = values - terms(list(fitted)) @ coefficients
    r2 = 1 - np.sum(residuals**2) / np.sum((values - values.mean()) ** 2)
    crafting, training, step, rest = coefficients
    spread = max(abs(seconds[point] / seconds[replace(point, count=Point.count)] - 1) for point in BY_COUNT)
    yield "\n".join(
        [
            f"### {title}\n",
            "| setting | ms per image | formula | |\n|---|---|---|---|",
            *rows,
            f"\nSeconds per image = size^2 x ({crafting:.3g} T + {training:.3g} (1 + m)) + {step:.3g} T + {rest:.3g}:",
            "each PGD step and each image trained on costs in proportion to the pixels, and each PGD step and each",
            f"batch something at any size. R^2 {r2:.4f}; largest relative error {_worst(seconds, formula, fitted):.0%}",
            f"on the fitted points, {_worst(seconds, formula, HELD_OUT):.0%} on those held out. An epoch costs in",
            f"proportion to its images: per image at most {spread:.0%} more or less than with {Point.count}.\n",
        ]
    )


def _worst(seconds: dict[Point, float], formula: dict[Point, float], points: Iterable[Point]) -> float:
    return max(abs(formula[point] / seconds[point] - 1) for point in points)
