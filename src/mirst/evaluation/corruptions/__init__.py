"""Natural corruptions of images, five severities each, by modality.

The black border of a letterboxed image stays black.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mirst.batches import Loader, checked_batches
from mirst.data import Channels, scored_index
from mirst.errors import MirstError
from mirst.evaluation.corruptions.sets import (
    CORRUPTIONS,
    SETS,
    SEVERITIES,
    corruption_set,
    corruptions_of,
    set_in_words,
    set_of,
)
from mirst.evaluation.model_checks import require_classes
from mirst.evaluation.outcomes import evaluate
from mirst.evaluation.progress import OnProgress, Progress, no_progress
from mirst.metrics import named_class_scores, row_metrics
from mirst.nn.box_fusion import split_box

__all__ = [
    "CORRUPTIONS",
    "SETS",
    "SEVERITIES",
    "corrupt",
    "corruption_set",
    "corruptions_of",
    "evaluate_corruptions",
    "set_in_words",
    "set_of",
]


def corrupt(x: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """Images `(N, C, H, W)` in [0, 1] under the corruption `name` of `CORRUPTIONS`.

    Args:
        severity: 1 to 5; 0 returns the images unchanged.
        generator: of the random draws, one per image.

    Raises:
        MirstError: an unknown name or severity.

    >>> corrupt(torch.full((1, 1, 2, 2), 0.5), "gain up", 1, torch.Generator()).flatten().tolist()[0]
    0.5600000023841858
    """
    if name not in CORRUPTIONS:
        raise MirstError(f"unknown corruption {name}; choose {', '.join(CORRUPTIONS)}")
    if severity not in (0, *SEVERITIES):
        raise MirstError(f"severity is {severity}; it must be 0 to 5")
    if severity == 0:
        return x
    function, strengths = CORRUPTIONS[name]
    return function(x, strengths[severity - 1], generator).clamp(0, 1)


def evaluate_corruptions(
    model: nn.Module,
    data: Loader,
    classes: Sequence[str],
    positive: str | None,
    *,
    modality: str | None = None,
    threshold: float = 0.0,
    seed: int = 0,
    check: bool = True,
    on_progress: OnProgress = no_progress,
) -> pd.DataFrame:
    """Metrics of `model` under every corruption of a modality and severity, and clean (`none`, 0).

    The box of a model that takes one stays as it is.

    Args:
        data: as in `evaluate`; iterated once.
        modality: of the images, as in `corruption_set`.
        check: warn of flaws of the model, as `evaluate` does.
        on_progress: called with the progress of each corruption and severity, before and after it.

    Returns:
        One row per corruption and severity: `corruption, severity` and the metrics.

    Raises:
        MirstError: no images, an unknown modality, or a model or classes that do not fit.
    """
    batches = list(checked_batches(data))
    images = sum(len(x) for x, _ in batches)
    if not batches:
        raise MirstError("there are no images to evaluate on")
    if positive is not None and positive not in classes:
        raise MirstError(f"positive is {positive}; give one of the classes {', '.join(classes)}")
    require_classes(model, batches[0][0][:2], len(classes))
    names = np.array(classes)
    rows = []
    channels: Channels = 3 if split_box(model, batches[0][0])[0].shape[1] == 3 else 1
    chosen = corruptions_of(modality, channels)
    for name, severity in [("none", 0), *((name, s) for name in chosen for s in SEVERITIES)]:
        generator = torch.Generator().manual_seed(seed)
        corrupted = [(_corrupted(model, x, name, severity, generator), y) for x, y in batches]
        title = f"{name}, severity {severity}" if severity else name
        on_progress(Progress(title, 0.0, 0, images))
        outcomes = evaluate(
            model,
            corrupted,
            {},
            positive=scored_index(classes, positive),
            threshold=threshold,
            seed=seed,
            check=check and name == "none",
        )
        on_progress(Progress(title, 0.0, images, images))
        named = outcomes.assign(label=names[outcomes["label"]], prediction=names[outcomes["prediction"]])
        metrics = row_metrics(named_class_scores(named, classes), classes, positive)
        rows.append({"corruption": name, "severity": severity, **metrics})
    return pd.DataFrame(rows)


def _corrupted(model: nn.Module, x: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """`corrupt` of the images; the box code of a model that takes one stays."""
    if not severity:
        return x
    images, box = split_box(model, x)
    return torch.cat([corrupt(images, name, severity, generator), box], 1)
