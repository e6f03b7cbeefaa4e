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
from mirst.nn import DropMax2d, ModelCard, drop_max2d, is_factory, load_model, read_card
from mirst.nn.logits import logits_of
from mirst.report.figures import draw_image, draw_perturbation
from mirst.study import Results
from mirst.study.named_configs import NamedDefense
from mirst.study.trial import Trial


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
    with torch.no_grad():
        own = int(model(x).argmax())
    return FigureInput(model, card, x, torch.tensor([own if label is None else card.classes.index(label)]))


def attacks_figure(given: FigureInput, attacks: Mapping[str, Attack]) -> Figure:
    """Figure 1: the clean image, then for each attack its perturbation, magnified, above the attacked image."""
    figure = Figure(figsize=(2.2 * (1 + len(attacks)), 4.9), layout="constrained")
    grid: Any = figure.subplots(2, 1 + len(attacks), squeeze=False)
    grid[0, 0].axis("off")
    label = given.card.classes[int(given.y)]
    draw_image(grid[1, 0], given.x[0].numpy(), f"{label}\n{given.prediction(given.x)}")
    for column, (name, attack) in enumerate(attacks.items(), start=1):
        attacked = attack(given.model, given.x, given.y, generator=torch.Generator().manual_seed(0))
        draw_perturbation(grid[0, column], (attacked - given.x)[0].numpy(), attack.eps)
        draw_image(grid[1, column], attacked[0].numpy(), f"{name}\n{given.prediction(attacked)}")
    return figure


def residual_maps(model: nn.Module, clean: Tensor, attacked: Tensor) -> dict[str, Tensor]:
    """The part of an attack that passes the first pooling, under max-pool and drop-max with the same weights.

    Returns:
        By pooling `(N, h, w)`: the feature map of `clean` minus that of `attacked`, summed over the
        channels, signed; of an ensemble, that of its first member.

    Raises:
        MirstError: the model has no pooling layer.
    """
    pool = next((m for m in model.modules() if isinstance(m, nn.MaxPool2d | DropMax2d)), None)
    if pool is None:
        raise MirstError(f"{type(model).__name__} has no max-pool or drop-max layer; choose a model with one")
    seen: list[Tensor] = []
    handle = pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    try:
        with torch.no_grad():
            model(clean)
            model(attacked)
    finally:
        handle.remove()
    before, after = seen[0], seen[1]
    size: Any = (pool.kernel_size, pool.stride, pool.padding)
    return {
        "max-pool": (F.max_pool2d(before, *size) - F.max_pool2d(after, *size)).sum(1),
        "drop-max": (drop_max2d(before, *size) - drop_max2d(after, *size)).sum(1),
    }


def residuals_figure(given: FigureInput, attack: Attack, name: str) -> Figure:
    """Figure 2: the residual maps of the model's own attack on the image, on one colour scale."""
    attacked = attack(given.model, given.x, given.y, generator=torch.Generator().manual_seed(0))
    maps = residual_maps(given.model, given.x, attacked)
    return draw_residuals([given.x[0].numpy()], [attacked[0].numpy()], {k: v.numpy() for k, v in maps.items()}, name)


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


def residuals_of(results: Results, entry: NamedDefense, count: int = 2, *, trusted: str | None = None) -> Figure | None:
    """Figure 2 of the first examples that a study kept of a defense, under its strongest gradient attack, PGD.

    `None` if it kept none, was not attacked by PGD, has no pooling layer, or is a model of code that is not trusted.

    Args:
        trusted: the `package.module:factory` whose code may be run, as for `mirst.nn.load_model`.
    """
    folder = results.files.trial(Trial(entry, 0, results.spec.seeds[0]).name)
    if not folder.examples.exists():
        return None
    with np.load(folder.examples, allow_pickle=False) as file:
        names, clean, attacked = list(file["attacks"]), file["clean"][:count], file["attacked"][:, :count]
    if "pgd" not in names:
        return None
    moved = attacked[names.index("pgd")]
    if is_factory(name := read_card(folder.model).model) and name != trusted:
        return None
    model, _ = load_model(folder.model, trusted)
    try:
        maps = residual_maps(model, torch.from_numpy(clean), torch.from_numpy(moved))
    except MirstError:
        return None
    return draw_residuals(list(clean), list(moved), {k: v.numpy() for k, v in maps.items()}, "pgd")


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
