"""Between proof and attack: what no attack can reduce, and what attacks have reduced, over eps."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mirst.evaluation import certified_rows, curve, two_sided
from mirst.metrics import metric_named
from mirst.report.baselines import baselines_at
from mirst.report.certified_gains import certified_gains, gains_text
from mirst.report.certified_gaps import between, between_text, gap_quantiles, gap_text
from mirst.report.charts import Axis, Chart, Line, line_chart
from mirst.report.context import of_defense, pixels
from mirst.report.pictures import picture_uri
from mirst.study import Results
from mirst.study.layout import TrialFolder
from mirst.study.named_configs import NamedDefense
from mirst.study.results import read_csv
from mirst.study.summary import MODEL
from mirst.study.trial import Trial

LISTED = 6
"""Images of each kind and defense."""
GAINS = (
    "Certified metrics minus those of the lesion's box alone, which no change of pixels alters, on the same images: "
    "the difference with its 95 % interval by group; p after Holm's correction for all rows"
)
BETWEEN = "Images between proof and attack at each eps: neither certified nor misclassified by an attack"
GAPS = (
    "The smallest eps of a successful attack minus the largest certified eps, over the images that are classified "
    "correctly without an attack; and how often each attack was the nearest"
)
JUST_ABOVE = 1e-12
"""Beyond its largest certified eps, an image counts as misclassified."""
IMAGE = ["fold", "seed", "source", "image"]


@dataclass(frozen=True)
class CertifiedImage:
    """An image at one end.

    >>> CertifiedImage("a.png", "benign", fold=0, eps="3.41/255", picture=None).eps
    '3.41/255'
    """

    image: str
    label: str
    fold: int
    eps: str
    """The largest at which it is certified, rounded down."""
    picture: str | None
    """As a data URI; `None` if the trial kept none."""


@dataclass(frozen=True)
class Ends:
    """The images of a defense that are certified farthest, and those that are certified at no eps.

    >>> Ends("ibp", images=4, correct=3, certified=2, median="1.25/255", farthest=[], nowhere=[]).certified
    2
    """

    title: str
    images: int
    correct: int
    """Classified correctly without an attack."""
    certified: int
    """At some eps."""
    median: str
    """Of the largest certified eps of all images."""
    farthest: list[CertifiedImage]
    nowhere: list[CertifiedImage]
    """Classified correctly, but without a certificate."""


class Captioned(NamedTuple):
    """A table in two forms, as `mirst.report.exports.Table`, with its caption.

    >>> Captioned("F1", pd.DataFrame({"F1": ["0.80"]}), pd.DataFrame({"f1": [0.8012]})).caption
    'F1'
    """

    caption: str
    shown: pd.DataFrame
    numbers: pd.DataFrame


@dataclass(frozen=True)
class ProofAndAttack:
    """The section.

    >>> proof = ProofAndAttack([], {}, {}, [], searched=False, method="interval")
    >>> proof.method
    'interval'
    """

    charts: list[Chart]
    """One per defense."""
    tables: dict[str, pd.DataFrame]
    """By heading, for readers."""
    comparisons: dict[str, Captioned]
    """By file name: `certified-gains` if there is a baseline of the box, `between`, and `gaps`."""
    ends: list[Ends]
    searched: bool
    """Whether the attacked curve comes from the search of the smallest eps."""
    method: str


def proof_and_attack(results: Results) -> ProofAndAttack | None:
    """`None` without certificates."""
    if results.certificates is None:
        return None
    curves = {entry.title: _curves(results, entry) for entry in _entries(results)}
    largest = max(float(one["eps"].max()) for one in curves.values())
    tables = {heading: two_sided_text(table) for heading, table in certified_tables(results).items()}
    return ProofAndAttack(
        [_chart(title, one, largest) for title, one in curves.items()],
        tables,
        _comparisons(results),
        [_ends(results, entry) for entry in _entries(results)],
        results.distances is not None,
        " and ".join(results.certificates["method"].unique()),
    )


def _comparisons(results: Results) -> dict[str, Captioned]:
    gains, counts, quantiles = certified_gains(results), between(results), gap_quantiles(results)
    tables = {}
    if gains is not None:
        tables["certified-gains"] = Captioned(GAINS, gains_text(gains), gains.drop(columns="difference"))
    return tables | {
        "between": Captioned(BETWEEN, between_text(counts), counts),
        "gaps": Captioned(GAPS, gap_text(quantiles), quantiles),
    }


def certified_tables(results: Results) -> dict[str, pd.DataFrame]:
    """`two_sided` of every defense at every eps, pooled over folds and seeds, by heading; then the baselines.

    Both sides of a baseline are its exact worst case. The study must have certificates.
    """
    assert results.certificates is not None
    tables = {
        entry.title: two_sided(of_defense(results.certificates, entry), results.classes, results.positive, MODEL)
        for entry in _entries(results)
    }
    for eps in results.certificates["eps"].unique():
        for title, rows in baselines_at(results, eps).groupby("defense", sort=False):
            exact = rows.assign(
                eps=eps,
                method="exact",
                certified=rows["label"] == rows["prediction"],
                attacked_prediction=rows["prediction"],
                attacked_score=rows["score"],
            )
            table = two_sided(exact, results.classes, results.positive, MODEL)
            tables[str(title)] = pd.concat([tables[str(title)], table] if str(title) in tables else [table])
    return tables


def two_sided_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `two_sided` for readers: a row per eps and metric, each side with its interval.

    >>> from mirst.evaluation import two_sided
    >>> row = {"group": 0, "label": "b", "prediction": "b", "eps": 1 / 255, "method": "interval", "certified": True}
    >>> rows = pd.DataFrame([row | {"score": 1.0, "attacked_prediction": "b", "attacked_score": 1.0}] * 2)
    >>> two_sided_text(two_sided(rows, ("a", "b"), "b"))["eps"].iloc[0]
    '1/255'
    """

    def side(name: str) -> list[str]:
        columns = (table[name], table[f"{name}_low"], table[f"{name}_high"])
        return [
            "undefined" if np.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"
            for value, low, high in zip(*columns, strict=True)
        ]

    return pd.DataFrame(
        {
            "eps": [pixels(eps) for eps in table["eps"]],
            "metric": [metric_named(name).title for name in table["metric"]],
            "certified": side("certified"),
            "attacked": side("attacked"),
        }
    )


def certified_numbers(results: Results) -> pd.DataFrame:
    """`certified_tables` as one table, unrounded."""
    tables = certified_tables(results)
    return pd.concat([table.assign(defense=title) for title, table in tables.items()], ignore_index=True)


def _entries(results: Results) -> list[NamedDefense]:
    """The defenses that have certificates."""
    assert results.certificates is not None
    return [entry for entry in results.spec.defenses if len(of_defense(results.certificates, entry))]


def _curves(results: Results, entry: NamedDefense) -> pd.DataFrame:
    """`eps, certified, attacked`: F1, pooled over the folds, at every quarter of a gray level."""
    assert results.certificates is not None
    own = of_defense(results.certificates, entry)
    largest = max(own["eps"].max(), own["largest_eps"].quantile(0.95))
    eps = np.arange(int(np.ceil(largest * 255 * 4)) + 1) / 4 / 255
    images = own.drop_duplicates(IMAGE)
    lost = certified_rows(images.assign(certified=False), results.classes, results.positive)
    proof = images.assign(eps=images["largest_eps"] + JUST_ABOVE, broken_prediction=lost["prediction"])
    if results.distances is not None:
        attack = of_defense(results.distances, entry)
    else:
        flipped = own[own["attacked_prediction"] != own["label"]].sort_values("eps").drop_duplicates(IMAGE)
        first = flipped[[*IMAGE, "eps", "attacked_prediction"]]
        attack = images.drop(columns=["eps", "attacked_prediction"]).merge(first, on=IMAGE, how="left")
        attack = attack.rename(columns={"attacked_prediction": "broken_prediction"})
    certified, attacked = (curve(rows, list(eps), results.classes, results.positive)["f1"] for rows in (proof, attack))
    return pd.DataFrame({"eps": eps, "certified": certified, "attacked": attacked})


def _chart(title: str, curve: pd.DataFrame, largest: float) -> Chart:
    """Up to the eps that all charts have in common."""
    levels = curve["eps"] * 255
    lines = [Line(name, levels, curve[name], number) for number, name in enumerate(("certified", "attacked"))]
    last = curve.iloc[-1]
    alt = (
        f"{title}: F1 over eps. At eps {levels.iloc[-1]:g}/255 it is {last['certified']:.3f} certified and "
        f"{last['attacked']:.3f} attacked; the tables contain the numbers."
    )
    x = Axis("eps, in gray levels of 255", 0, 255 * largest)
    return line_chart(title, lines, x, Axis(metric_named("f1").title), alt, between=(lines[0], lines[1]))


def _ends(results: Results, entry: NamedDefense) -> Ends:
    assert results.certificates is not None
    images = of_defense(results.certificates, entry).drop_duplicates(IMAGE)
    ordered = images.sort_values("largest_eps", ascending=False, kind="stable")
    correct = images[images["prediction"] == images["label"]]
    nowhere = correct[correct["largest_eps"] == 0].sort_values("margin", kind="stable")
    far = ordered[ordered["largest_eps"] > 0]
    return Ends(
        entry.title,
        images=len(images),
        correct=len(correct),
        certified=len(far),
        median=levels_below(images["largest_eps"].median()),
        farthest=[_image(results, entry, row) for row in far.head(LISTED).to_dict("records")],
        nowhere=[_image(results, entry, row) for row in nowhere.head(LISTED).to_dict("records")],
    )


def levels_below(eps: float) -> str:
    """In gray levels of 255, rounded down, so that a certificate at it holds.

    >>> levels_below(3.419 / 255)
    '3.41/255'
    """
    return f"{np.floor(25500 * eps) / 100:.2f}/255"


def _image(results: Results, entry: NamedDefense, row: Mapping[Hashable, Any]) -> CertifiedImage:
    folder = results.files.trial(Trial(entry, row["fold"], row["seed"]).name)
    eps, name = levels_below(row["largest_eps"]), row["image"]
    return CertifiedImage(name, row["label"], row["fold"], eps, _picture(folder, row["source"], name))


def _picture(folder: TrialFolder, source: str, image: str) -> str | None:
    """Of an image that the trial kept."""
    if not folder.certificate_images.exists():
        return None
    names = read_csv(folder.certificates)
    with np.load(folder.certificate_images, allow_pickle=False) as file:
        kept = names.iloc[file["rows"]]
        at = np.flatnonzero((kept["source"] == source) & (kept["image"] == image))
        return picture_uri(file["clean"][at[0]] / 255) if len(at) else None
