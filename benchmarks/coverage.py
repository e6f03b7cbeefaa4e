"""How often the 95 % intervals of `mirst.evaluation` hold the truth, on simulated models of known metrics.

    python -m benchmarks.coverage [SIMULATIONS]

Prints the tables of docs/results/intervals.md. Images come in groups of one to five, and a group has one class. How
often a model is right on a group is drawn from a beta distribution, so that the answers within a group have an
intraclass correlation of 0.3; so have the normal scores that AUC ranks. For comparison: the percentile bootstrap over
groups, which mirst used before, and Clopper and Pearson's interval at the true effective number of images.
"""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta, norm

from mirst.evaluation import METRICS, Interval, interval, paired_difference
from mirst.metrics import MetricInput, metric_named

ICC = 0.3
LARGEST_GROUP = 5
DRAWS = 200
SIZES = (30, 130, 650)
RATES = (0.02, 0.5, 0.98)
BENIGN, MALIGNANT = CLASSES = ("benign", "malignant")


class Model:
    """Of known rates; `positive` is the share of positive groups."""

    def __init__(self, positive: float, sensitivity: float, specificity: float, auc: float) -> None:
        self.positive, self.sensitivity, self.specificity, self.auc = positive, sensitivity, specificity, auc
        hit, kept = positive * sensitivity, (1 - positive) * specificity
        truths = (2 * hit / (positive + hit + 1 - positive - kept), sensitivity, specificity, auc, hit + kept)
        self.truth = dict(zip(METRICS, truths, strict=True))


def draw(model: Model, images: int, rng: np.random.Generator) -> pd.DataFrame:
    """Outcome rows of one sample."""
    group = np.repeat(np.arange(images), rng.integers(1, LARGEST_GROUP + 1, images))[:images]
    is_positive = (rng.random(images) < model.positive)[group]
    noise = np.sqrt(ICC) * rng.normal(size=images)[group] + np.sqrt(1 - ICC) * rng.normal(size=images)
    return pd.DataFrame(
        {
            "source": "simulated",
            "image": np.arange(images),
            "seed": 0,
            "group": group,
            "label": np.where(is_positive, MALIGNANT, BENIGN),
            "prediction": np.where(is_positive == _right(model, group, is_positive, rng), MALIGNANT, BENIGN),
            "score": np.sqrt(2) * norm.ppf(model.auc) * is_positive + noise,
        }
    )


def _right(
    model: Model, group: NDArray[np.int64], is_positive: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which images the model answers rightly: beta-binomial in each group."""
    mean = np.where(is_positive, model.sensitivity, model.specificity) * (1 - ICC) / ICC
    level = beta.ppf(rng.random(len(group))[group], mean, (1 - ICC) / ICC - mean)
    return np.asarray(rng.random(len(group)) < level)


def bootstrap(rows: pd.DataFrame, metric: str, weights: NDArray[np.float64]) -> Interval:
    """The percentile bootstrap, `weights` saying how often each group is drawn; 0 where a metric is undefined."""
    group = rows["group"].to_numpy()
    label, prediction, score = (rows[name].to_numpy() for name in ("label", "prediction", "score"))
    if metric == "auc":
        spread = _weighted_auc(label == MALIGNANT, score, weights[:, group])
    else:
        entry = metric_named(metric)
        (ratio,) = entry.ratios(MetricInput.of(label, prediction, score, CLASSES, MALIGNANT))
        part, whole = (weights @ np.bincount(group, column) for column in (ratio.part, ratio.whole))
        spread = entry.from_ratio(part / np.maximum(whole, 1e-12))
    low, high = np.percentile(spread, [2.5, 97.5])
    return Interval(0.0, float(low), float(high))


def _weighted_auc(
    is_positive: NDArray[np.bool_], score: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    order = np.argsort(score)
    positive, negative = weights[:, order] * is_positive[order], weights[:, order] * ~is_positive[order]
    pairs = positive.sum(1) * negative.sum(1)
    return np.asarray((positive * np.cumsum(negative, 1)).sum(1) / np.maximum(pairs, 1e-12))


def known(metric: str, values: Sequence[float]) -> list[Interval]:
    """Clopper and Pearson's intervals of `values` at the effective number of images that their own variance gives."""
    ratio = np.array(values)
    if metric == "f1":
        ratio = ratio / (2 - ratio)
    size = ratio.mean() * (1 - ratio.mean()) / ratio.var()
    hits, misses = ratio * size, (1 - ratio) * size
    low, high = (
        np.where(hits, beta.ppf(0.025, hits, misses + 1), 0),
        np.where(misses, beta.isf(0.025, hits + 1, misses), 1),
    )
    from_ratio = metric_named(metric).from_ratio
    return [Interval(0.0, *map(float, ends)) for ends in zip(from_ratio(low), from_ratio(high), strict=True)]


def measured(found: Sequence[Interval], truth: float) -> str:
    """Coverage and mean width."""
    covered = np.mean([one.low - 1e-9 <= truth <= one.high + 1e-9 for one in found])
    return f"{covered:.3f} | {np.mean([one.high - one.low for one in found]):.3f}"


def cells(model: Model, images: int, simulations: int, seed: int) -> Iterator[str]:
    """A line per metric. Samples in which it is undefined are left out."""
    rng = np.random.default_rng([seed, images])
    ours: dict[str, list[Interval]] = {metric: [] for metric in METRICS}
    before: dict[str, list[Interval]] = {metric: [] for metric in METRICS}
    for _ in range(simulations):
        rows = draw(model, images, rng)
        count = rows["group"].max() + 1
        weights = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(float)
        for metric in METRICS:
            one = interval(rows, CLASSES, MALIGNANT, metric)
            if not np.isnan(one.value):
                ours[metric].append(one)
                before[metric].append(bootstrap(rows, metric, weights))
    for metric, truth in model.truth.items():
        kinds = (ours[metric], before[metric], known(metric, [one.value for one in ours[metric]]))
        columns = " | ".join(measured(kind, truth) for kind in kinds)
        undefined = 1 - len(ours[metric]) / simulations
        yield f"| {metric} | {truth:.2f} | {model.positive:.2f} | {images} | {columns} | {undefined:.2f} |"


def differences(rate: float, images: int, simulations: int) -> str:
    """Two models of equal sensitivity that agree on all images of every other group, on average."""
    rng = np.random.default_rng([9, round(100 * rate), images])
    model, everything = Model(1.0, rate, rate, 0.5), np.ones(images, dtype=bool)
    found = []
    for _ in range(simulations):
        first = draw(model, images, rng)
        group = first["group"].to_numpy()
        anew = np.where(_right(model, group, everything, rng), MALIGNANT, BENIGN)
        apart = (rng.random(images) < 0.5)[group]
        second = first.assign(prediction=np.where(apart, anew, first["prediction"]))
        found.append(paired_difference(first, second, CLASSES, MALIGNANT, "sensitivity"))
    significant = np.mean([one.p < 0.05 for one in found])
    return f"| {rate:.2f} | {images} | {measured(found, 0.0)} | {significant:.3f} |"


def tables(simulations: int) -> Iterator[str]:
    heading = (
        "| metric | true value | positive groups | images | coverage | width | before: coverage | width "
        "| known size: coverage | width | undefined |"
    )
    # with as many positive groups as negative ones, all five metrics have one value
    by_value = [Model(0.5, rate, rate, rate) for rate in RATES]
    by_prevalence = [Model(rate, 0.8, 0.7, 0.85) for rate in RATES]
    seed = 0
    for models in (by_value, by_prevalence):
        yield f"\n{heading}\n{'|---' * 11}|"
        for model in models:
            for images in SIZES:
                yield from cells(model, images, simulations, seed)
            seed += 1
    yield "\n| sensitivity of both | images | coverage | width | p below .05 |\n|---|---|---|---|---|"
    for rate in RATES:
        yield from (differences(rate, images, simulations) for images in SIZES)


if __name__ == "__main__":
    for line in tables(int(sys.argv[1]) if len(sys.argv) > 1 else 500):
        print(line, flush=True)
