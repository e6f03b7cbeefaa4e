"""Certified metrics minus those of the lesion's box alone, which no attack on pixels changes."""

import numpy as np
import pandas as pd

from mirst.evaluation import certified_rows, holm
from mirst.metrics import METRICS
from mirst.report.baselines import baseline_title, baselines_at, for_every_seed
from mirst.report.context import of_defense, pixels
from mirst.report.differences import LEVEL, NOT_SIGNIFICANT
from mirst.study import Results
from mirst.study.baselines import BOX
from mirst.study.summary import MODEL, pooled_difference, pooled_interval

COMPARED = ("f1", "auc")


def certified_gains(results: Results) -> pd.DataFrame | None:
    """The certified F1 and AUC of every defense minus those of the box alone on the same images.

    All are pooled over folds and seeds.

    Returns:
        A row per defense, eps and metric: `defense, eps, metric, certified, box, difference` (with its 95 % interval
        over groups), its `value, low, high`, `p` (corrected for all rows by Holm's method) and `reading`, in words.
        `None` if there are no certificates or no baseline of the box.
    """
    if results.certificates is None:
        return None
    classes, positive = results.classes, results.positive
    lines, p = [], []
    for entry in results.spec.defenses:
        own = of_defense(results.certificates, entry)
        for eps in sorted(own["eps"].unique()):
            proof = certified_rows(own[own["eps"] == eps], classes, positive)
            box = _box_rows(results, eps, proof)
            for metric in COMPARED if len(box) else ():
                gain = pooled_difference(box, proof, classes, positive, metric)
                sides = (pooled_interval(rows, classes, positive, metric).value for rows in (proof, box))
                lines.append((entry.title, eps, metric, *sides, str(gain), gain.value, gain.low, gain.high))
                p.append(gain.p)
    if not lines:
        return None
    columns = ["defense", "eps", "metric", "certified", "box", "difference", "value", "low", "high"]
    table = pd.DataFrame(lines, columns=columns).assign(p=holm(p))
    better = np.where(table["value"] > 0, "better than the box", "worse than the box")
    return table.assign(reading=np.where(table["p"] < LEVEL, better, NOT_SIGNIFICANT))


def gains_text(gains: pd.DataFrame) -> pd.DataFrame:
    """The rows of `certified_gains` for readers.

    >>> gains = {"defense": "ibp", "eps": 1 / 255, "metric": "f1", "certified": 0.7, "box": 0.6, "difference": "+0.1"}
    >>> gains_text(pd.DataFrame([gains | {"p": 0.04, "reading": "better than the box"}]))["eps"].item()
    '1/255'
    """
    return pd.DataFrame(
        {
            "defense": gains["defense"],
            "eps": gains["eps"].map(pixels),
            "metric": [METRICS[name].title for name in gains["metric"]],
            "certified": gains["certified"].map("{:.3f}".format),
            "the box alone": gains["box"].map("{:.3f}".format),
            "difference": gains["difference"],
            "p": gains["p"].map("{:.3f}".format),
            "reading": gains["reading"],
        }
    )


def _box_rows(results: Results, eps: float, proof: pd.DataFrame) -> pd.DataFrame:
    """The rows of the box alone at an eps, for the models of `proof`; empty if the folder has none at this eps."""
    baselines = baselines_at(results, eps)
    box = for_every_seed(baselines[baselines["defense"] == baseline_title(BOX.name)], results)
    return box.merge(proof[MODEL].drop_duplicates(), on=MODEL)
