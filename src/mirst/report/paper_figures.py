"""The two figures of MIRST-DM, for any checkpoint and image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from mirst.attacks import Attack
from mirst.data import Box, ImageFile
from mirst.errors import MirstError
from mirst.evaluation import decide
from mirst.evaluation.predictions import boxes_for, images_for
from mirst.files import atomic
from mirst.nn import DropMax2d, ModelCard, drop_max2d, load_model
from mirst.nn.device import default_device
from mirst.nn.logits import logits_of
from mirst.report.figures import draw_image, draw_perturbation


@dataclass(frozen=True)
class FigureInput:
    """A model, an image `(1, C, H, W)` in [0, 1], and its class `(1,)`, which the attacks avoid.

    >>> card = ModelCard(
    ...     model="net", drop_max=False, channels=1, size=2, classes=("benign", "malignant"), positive="malignant",
    ...     threshold=0.0, defense="ce",
    ... )
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    >>> FigureInput(net, card, torch.rand(1, 1, 2, 2), torch.tensor([0])).prediction(torch.zeros(1, 1, 2, 2))[:1]
    '→'
    """

    model: nn.Module
    card: ModelCard
    x: Tensor
    y: Tensor

    def prediction(self, x: Tensor) -> str:
        """The model's prediction at its operating point, and the log-odds of the positive class."""
        logits = logits_of(self.model, x)
        score, predicted = decide(logits, self.card.positive_index, self.card.threshold)
        return f"→ {self.card.classes[int(predicted)]} ({score.item():+.2f})"


def read_figure_input(
    checkpoint: Path, image: Path, label: str | None = None, trusted: str | None = None, box: Box | None = None
) -> FigureInput:
    """Load a checkpoint and an image; without a `label` the class is the one that the model predicts.

    Args:
        trusted: as for `load_model`.
        box: as for `mirst.evaluation.predict`.

    Raises:
        MirstError: a checkpoint or image that cannot be read, a label that is not a class of the model, a box for a
            model of whole images, or no box for a model of crops around lesions.
    """
    model, card = load_model(checkpoint, trusted)
    file = ImageFile(image, value_range=card.value_range)
    x = images_for(card, [file], boxes_for(card, [file], box))
    if label is not None and label not in card.classes:
        raise MirstError(f"--label {label} is not a class of the model; choose one of {', '.join(card.classes)}")
    x = x.to(default_device())
    with torch.no_grad():
        own = int(model.to(x.device)(x).argmax())
    y = torch.tensor([own if label is None else card.classes.index(label)], device=x.device)
    return FigureInput(model, card, x, y)


def attacks_figure(given: FigureInput, attacks: Mapping[str, Attack]) -> Figure:
    """Figure 1: the clean image, then for each attack its perturbation, magnified, above the attacked image."""
    figure = Figure(figsize=(2.2 * (1 + len(attacks)), 4.9), layout="constrained")
    grid: Any = figure.subplots(2, 1 + len(attacks), squeeze=False)
    grid[0, 0].axis("off")
    label = given.card.classes[int(given.y)]
    draw_image(grid[1, 0], given.x[0].cpu().numpy(), f"{label}\n{given.prediction(given.x)}")
    for column, (name, attack) in enumerate(attacks.items(), start=1):
        attacked = attack(given.model, given.x, given.y, generator=torch.Generator().manual_seed(0))
        draw_perturbation(grid[0, column], (attacked - given.x)[0].cpu().numpy(), attack.eps)
        draw_image(grid[1, column], attacked[0].cpu().numpy(), f"{name}\n{given.prediction(attacked)}")
    return figure


def residual_maps(model: nn.Module, clean: Tensor, attacked: Tensor) -> dict[str, Tensor]:
    """The part of an attack that passes the first pooling, under max-pool and drop-max with the same weights.

    Returns:
        By pooling `(N, h, w)`: the feature map of `clean` minus that of `attacked`, summed over the
        channels, signed; of an ensemble, that of its first member.

    Raises:
        MirstError: the model has no pooling layer, or does not use it.
    """
    pool = next((m for m in model.modules() if isinstance(m, nn.MaxPool2d | DropMax2d)), None)
    if pool is None:
        raise MirstError(f"{type(model).__name__} has no max-pool or drop-max layer; choose a model with one")
    before, after = _before(model, pool, clean), _before(model, pool, attacked)
    size: Any = (pool.kernel_size, pool.stride, pool.padding)
    return {
        "max-pool": (F.max_pool2d(before, *size) - F.max_pool2d(after, *size)).sum(1),
        "drop-max": (drop_max2d(before, *size) - drop_max2d(after, *size)).sum(1),
    }


class _ReachedError(Exception):
    """Ends a forward pass at a layer."""

    def __init__(self, activations: Tensor) -> None:
        self.activations = activations


def _before(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """The input of a layer; no later layer is computed."""

    def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise _ReachedError(inputs[0].detach())

    handle = layer.register_forward_pre_hook(stop)
    try:
        with torch.no_grad():
            model(x)
    except _ReachedError as reached:
        return reached.activations
    finally:
        handle.remove()
    raise MirstError(f"{type(model).__name__} does not use its pooling layer; choose a model that does")


def residuals_figure(given: FigureInput, attack: Attack, name: str) -> Figure:
    """Figure 2: the residual maps of the model's own attack on the image, on one colour scale."""
    attacked = attack(given.model, given.x, given.y, generator=torch.Generator().manual_seed(0))
    maps = residual_maps(given.model, given.x, attacked)
    return draw_residuals(
        [given.x[0].cpu().numpy()], [attacked[0].cpu().numpy()], {k: v.cpu().numpy() for k, v in maps.items()}, name
    )


def draw_residuals(
    clean: list[np.ndarray[Any, Any]],
    attacked: list[np.ndarray[Any, Any]],
    maps: Mapping[str, np.ndarray[Any, Any]],
    name: str,
) -> Figure:
    """A row per image: clean, attacked, and its residual map under each pooling."""
    limit = max(float(np.abs(residual).max()) for residual in maps.values()) or 1.0
    figure = Figure(figsize=(2.2 * (2 + len(maps)) + 0.6, 2.5 * len(clean)), layout="constrained")
    grid: Any = figure.subplots(len(clean), 2 + len(maps), squeeze=False)
    for i, row in enumerate(grid):
        draw_image(row[0], clean[i], "clean")
        draw_image(row[1], attacked[i], name)
        for axes, (pooling, residual) in zip(row[2:], maps.items(), strict=True):
            shown = axes.imshow(residual[i], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set_title(f"{pooling}\nmean |residual| {np.abs(residual[i]).mean():.3g}", fontsize=7)
            axes.axis("off")
    figure.colorbar(shown, ax=grid, shrink=0.8)
    return figure


def save_figure(figure: Figure, out: Path) -> Path:
    """Write `out` in the format of its suffix, `.png` or `.svg`.

    Raises:
        MirstError: another suffix, or a path that cannot be written.
    """
    kind = out.suffix.removeprefix(".").lower()
    if kind not in ("png", "svg"):
        raise MirstError(f"{out} is neither .png nor .svg; use one of these suffixes")
    with atomic(out) as partial:
        figure.savefig(partial, format=kind, dpi=150)
    return out
