"""`MODEL_CARD.md`: a description of a trained model, with the metadata that model hubs read."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from mirst.evaluation import metrics_of, weak_budget
from mirst.files import write_text
from mirst.metrics import AUC_ATTACKED, Metric, study_metrics
from mirst.nn import read_card
from mirst.study.named_configs import NamedDefense
from mirst.study.prepared import Prepared, training_shares

FILE = "MODEL_CARD.md"


def write_card(
    checkpoint: Path,
    name: str,
    entry: NamedDefense,
    prepared: Prepared,
    indices: NDArray[np.int64],
    history: pd.DataFrame | None,
    seed: int,
    rows: pd.DataFrame | None = None,
    split: str = "",
) -> None:
    """Write the card beside `checkpoint`.

    Args:
        name: of the model.
        indices: positions of the records that the model was trained and validated on.
        history: a row per epoch, with the one whose weights were kept marked; `None` for an ensemble.
        rows: outcome rows on test images, clean and attacked, by class names.
        split: which test images these are.
    """
    card, spec = read_card(checkpoint), prepared.spec
    trained, held_out = training_shares(prepared, indices)
    sources = sorted({record.source for record in prepared.records})
    evaluation: list[dict[Any, Any]] = [] if rows is None else metrics_of(rows, card).to_dict("records")
    clean = None if rows is None else rows[rows["attack"] == "none"]
    metrics = list(study_metrics(card.positive).values())
    metrics += [AUC_ATTACKED] if any(AUC_ATTACKED.name in under for under in evaluation) else []
    front = _front(name, entry, sources, metrics)
    if evaluation:
        front["model-index"] = [
            {"name": name, "results": [_result(under, sources, split, metrics) for under in evaluation]}
        ]
    environment = Environment(
        loader=PackageLoader("mirst.study"), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    text = environment.get_template("MODEL_CARD.md.j2").render(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        name=name,
        checkpoint=checkpoint.name,
        title=entry.title,
        card=card,
        trusted=f', trusted="{card.model}"' if ":" in card.model else "",
        weights=spec.model.weights,
        sources=", ".join(sources),
        trained=_counts(prepared, trained),
        held_out=_counts(prepared, held_out) if len(held_out) else "",
        tested="" if clean is None else _class_counts(Counter(clean["label"])),
        split=split,
        folds=spec.folds.kind,
        training=spec.training,
        epochs=spec.training.epochs if history is None else len(history),
        seed=seed,
        kept=None if history is None else _kept(history),
        metric_titles=[metric.title for metric in metrics],
        evaluation=[_cells(measured, metrics) for measured in evaluation],
        caveats=_caveats(prepared, rows),
        cut=float(scipy.special.expit(card.threshold / (card.calibration.temperature if card.calibration else 1.0))),
        collapsed=_collapsed(clean),
    )
    write_text(checkpoint.with_name(FILE), text)


def _front(name: str, entry: NamedDefense, sources: list[str], metrics: list[Metric]) -> dict[str, Any]:
    return {
        "license": "unknown",
        "library_name": "mirst",
        "pipeline_tag": "image-classification",
        "tags": ["medical-imaging", "adversarial-robustness", entry.name, *(["drop-max"] if entry.drop_max else [])],
        "datasets": sources,
        "metrics": [metric.hub for metric in metrics],
        "model_name": name,
    }


def _result(measured: dict[str, Any], sources: list[str], split: str, metrics: list[Metric]) -> dict[str, Any]:
    data = "+".join(sources)
    return {
        "task": {"type": "image-classification"},
        "dataset": {
            "type": data,
            "name": f"{data}, {_attack(measured)}",
            "config": _attack(measured),
            "split": split,
            "args": {"attack": measured["attack"], "eps": measured["eps"]},
        },
        "metrics": [
            {"type": metric.hub, "name": metric.name, "value": round(measured[metric.name], 6)}
            for metric in metrics
            if np.isfinite(measured.get(metric.name, np.nan))
        ],
    }


def _attack(measured: dict[str, Any]) -> str:
    attack, eps = measured["attack"], measured["eps"]
    return "no attack" if attack == "none" else f"{attack} at eps {eps * 255:g}/255"


def _cells(measured: dict[str, Any], metrics: list[Metric]) -> list[str]:
    """A line of the table: the attack, eps and every metric."""
    eps = f"{measured['eps'] * 255:g}/255" if measured["eps"] else "0"
    found = [measured.get(metric.name, np.nan) for metric in metrics]
    values = [f"{value:.3f}" if np.isfinite(value) else "-" for value in found]
    return [_attack(measured).split(" at ")[0], eps, *values]


def _counts(prepared: Prepared, indices: NDArray[np.int64]) -> str:
    return _class_counts(Counter(prepared.records[i].label for i in indices))


def _class_counts(counts: Counter[str]) -> str:
    return f"{counts.total()} images ({', '.join(f'{count} {label}' for label, count in sorted(counts.items()))})"


def _kept(history: pd.DataFrame) -> dict[str, Any]:
    row = history[history["kept"]].iloc[0]
    return {"number": int(row["number"])} | {
        name: float(row[name]) if pd.notna(row.get(name)) else None for name in ("clean", "attacked", "attacked_auc")
    }


def _caveats(prepared: Prepared, rows: pd.DataFrame | None) -> list[str]:
    weak = prepared.audit.range_warnings()
    weak += [sentence for entry in prepared.spec.attacks if (sentence := weak_budget(entry.label, entry.attack))]
    if rows is not None and rows["attack"].str.startswith("certified (").any():
        weak.append(
            "The certified rows are lower bounds: under any attack within eps the metrics on these images cannot fall "
            "below them."
        )
    if rows is not None and not {"standard", "adaptive"} & set(rows["attack"]):
        weak.append(
            "No strong attack was run, so these numbers are upper bounds; mirst evaluate RESULTS --suite standard runs "
            "strong attacks."
        )
    return weak


def _collapsed(clean: pd.DataFrame | None) -> str:
    """The class that the model predicts for every clean test image; empty if it predicts several."""
    predictions = set() if clean is None else set(clean["prediction"])
    return str(predictions.pop()) if len(predictions) == 1 else ""
