"""Figures as PNG bytes."""

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mirst.box_code import without_box
from mirst.metrics import metric_named
from mirst.report.context import ReportContext, attack_name
from mirst.report.tables import attack_titles

MOST_LETTERS = 90
"""Of the names below a chart that fit in one line."""


def bar_chart(context: ReportContext, metric: str) -> bytes:
    """The metric of every defense under every attack; error bars show one standard deviation over the folds."""
    results, summary = context.results, context.summary
    summary = summary[summary["metric"] == metric]
    headings = {
        attack: heading for attack, heading in attack_titles(results).items() if attack in set(summary["attack"])
    }
    defenses = [entry.title for entry in results.spec.defenses]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(headings)
    for number, (attack, heading) in enumerate(headings.items()):
        rows = summary[summary["attack"] == attack].set_index(["defense", "drop_max"])
        rows = rows.reindex([(entry.label, entry.drop_max) for entry in results.spec.defenses])
        at = np.arange(len(defenses)) + (number - (len(headings) - 1) / 2) * width
        colour = "#44546a" if number == 0 else f"C{number - 1}"
        axes.bar(at, rows["mean"], width, yerr=rows["std"], label=heading, capsize=2, color=colour)
    _label_columns(axes, defenses)
    axes.set_ylim(0, 1)
    axes.set_ylabel(metric_named(metric).title)
    without_frame(axes)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return as_png(figure)


def interval_chart(whole: pd.DataFrame) -> Figure:
    """F1 of every defense with its 95 % interval, a colour for each attack.

    Args:
        whole: as from `mirst.report.differences.intervals`.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (attack, row) in enumerate(whole.iterrows()):
        values, lows, highs = (np.array([getattr(one, part) for one in row]) for part in ("value", "low", "high"))
        at = np.arange(len(row)) + (number - (len(whole) - 1) / 2) * 0.15
        colour = "#44546a" if number == 0 else f"C{number - 1}"
        name = attack_name(attack)
        axes.errorbar(at, values, (values - lows, highs - values), fmt="o", capsize=3, label=name, color=colour)
    _label_columns(axes, list(whole.columns))
    axes.set_ylim(0, 1)
    axes.set_ylabel(metric_named("f1").title)
    without_frame(axes)
    figure.legend(loc="outside upper center", ncols=len(whole), frameon=False)
    return figure


def _label_columns(axes: Axes, names: Sequence[str]) -> None:
    """Slanted if they would overlap."""
    slanted = sum(map(len, names)) > MOST_LETTERS
    axes.set_xticks(np.arange(len(names)), names, rotation=25 if slanted else 0, ha="right" if slanted else "center")


def draw_image(axes: Any, image: np.ndarray[Any, Any], text: str) -> None:
    """An image `(C, H, W)` in [0, 1] under its title."""
    axes.imshow(without_box(image).transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_title(text, fontsize=7, parse_math=False)  # a class may be called $x$
    axes.axis("off")


def draw_perturbation(axes: Any, delta: np.ndarray[Any, Any], eps: float) -> None:
    """The channel mean on a signed scale from -eps to eps."""
    axes.imshow(without_box(delta).mean(0), cmap="RdBu_r", vmin=-eps, vmax=eps)
    axes.set_title(f"perturbation\n× {1 / (2 * eps):.0f}" if eps else "perturbation", fontsize=7)
    axes.axis("off")


def without_frame(axes: Any) -> None:
    """Hide the upper and the right edge of a panel."""
    axes.spines[["top", "right"]].set_visible(False)


def as_png(figure: Figure) -> bytes:
    """The file's content."""
    figure.set_dpi(110)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()  # once; `savefig` draws a figure with a layout twice
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).save(buffer, format="png")
    return buffer.getvalue()


def data_uri(content: bytes, kind: str = "png") -> str:
    """The content of an image file as a `data:` URI."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def image_uri(image: Image.Image, kind: str = "png", **options: Any) -> str:
    """The image as a file of that kind in a `data:` URI; the options are those of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return data_uri(buffer.getvalue(), kind)
