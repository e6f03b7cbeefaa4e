"""The results of a suite of attacks on one model: in sentences, as files, and as a curve over eps."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mirst.evaluation import Robustness, overall
from mirst.files import write_csv, write_text
from mirst.report.context import pixels
from mirst.report.eps_curve import DRAWN
from mirst.report.figures import without_frame
from mirst.report.paper_figures import save_figure


def verdict_lines(found: Robustness, flaws: list[str]) -> list[str]:
    """Whether the numbers are reliable; then each check, what was left out, and the time of each attack."""
    lines = [f"MODEL: {flaw}." for flaw in flaws]
    if found.checks:
        verdict = overall(found.checks)
        meaning = {
            "pass": "no sign of gradient masking",
            "suspect": "the numbers are upper bounds",
            "fail": "the numbers below are unreliable",
        }[verdict]
        lines.append(
            f"Masking checks at eps {pixels(found.checked_eps)}: {verdict.upper()}, {meaning} (docs/masking.md)."
        )
        lines += [f"  {check.verdict:7} {check.name}: {check.figures}" for check in found.checks]
    lines += [f"Left out: {sentence}" for sentence in found.left_out]
    for suite, eps in dict.fromkeys(zip(found.costs["suite"], found.costs["eps"], strict=True)):
        cost = found.costs[(found.costs["suite"] == suite) & (found.costs["eps"] == eps)]
        ran = ", ".join(
            f"{row['attack']} misclassified {row['broken']} of {row['images']} in {row['seconds']:.1f} s"
            for row in cost.to_dict("records")
        )
        lines.append(f"{suite} at {pixels(eps)}: {ran}.")
        if "score_seconds" in cost:
            lines.append(
                f"{suite} at {pixels(eps)}: the AUC under attack took {cost['score_seconds'].sum():.1f} s more."
            )
    return lines


def write_robustness(out: Path, found: Robustness, flaws: list[str], metrics: pd.DataFrame) -> Path:
    """Write `outcomes.csv`, `metrics.csv`, `costs.csv`, `verdict.txt` and `curve.png` / `curve.svg` into `out`.

    Raises:
        MirstError: a file cannot be written.
    """
    write_csv(out / "outcomes.csv", found.rows)
    write_csv(out / "metrics.csv", metrics)
    write_csv(out / "costs.csv", found.costs)
    write_text(out / "verdict.txt", "\n".join([*verdict_lines(found, flaws), ""]))
    figure = robustness_curve(metrics)
    for kind in ("png", "svg"):
        save_figure(figure, out / f"curve.{kind}")
    return out


def robustness_curve(metrics: pd.DataFrame) -> Figure:
    """The drawn metrics over eps, a line for the paper's protocol and one for the suite.

    Args:
        metrics: rows of `attack, eps` and metrics, clean ("none") among them.
    """
    clean = metrics[metrics["attack"] == "none"]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels: Any = figure.subplots(1, len(DRAWN), sharey=True)
    for axes, metric in zip(panels, DRAWN, strict=True):
        for suite in metrics["attack"].unique():
            if suite == "none":
                continue
            line = pd.concat([clean, metrics[metrics["attack"] == suite]]).sort_values("eps")
            style = "o--" if suite == "paper" else "o-"
            axes.plot(
                line["eps"] * 255, line[metric.name], style, label="paper protocol" if suite == "paper" else suite
            )
        axes.set_xlabel("eps, in gray levels of 255")
        axes.set_ylabel(metric.title)
        axes.set_ylim(0, 1)
        without_frame(axes)
    panels[0].legend(frameon=False)
    return figure
