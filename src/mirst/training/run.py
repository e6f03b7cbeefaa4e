"""Train a model in one call."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from torch import nn

from mirst.batches import Loader
from mirst.defenses import Defense
from mirst.defenses.base_classes import require_defense, smoothed, uses_labels
from mirst.errors import MirstError
from mirst.nn import in_fast_layout, reference_mode
from mirst.training.checks import check_validation, class_counts, require_trainable
from mirst.training.epoch import seeded_epoch
from mirst.training.extensions import Extension
from mirst.training.loop import FitResult, TrainingRun
from mirst.training.modes import modes_kept
from mirst.training.settings import Training
from mirst.training.state import Epoch


def fit(
    model: nn.Module,
    data: Loader,
    defense: Defense,
    *,
    val: Loader | None = None,
    settings: Training | None = None,
    positive: int = 1,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    extensions: Sequence[Extension] = (),
) -> FitResult:
    """Train `model` in place.

    Args:
        model: any module from `(N, C, H, W)` images in [0, 1] to `(N, K)` logits, on any device. On a CPU
            its weights are laid out channels last meanwhile, unless `settings.fast` is off. A model in train mode
            is trained with every layer in its own mode, so batch norms that were put into eval mode stay frozen;
            a model in eval mode is trained in train mode as a whole. All modes are left as found.
        data: batches as `mirst.batches.unpacked` takes them, a `DataLoader` for one; iterated once before the
            first epoch, to check them and count the classes, and once per epoch.
        defense: the training objective. `settings` decides when its eps grows and whether the classes are weighted.
        val: batches to select and to set the operating threshold on; checked before the first epoch too.
        settings: defaults to `Training()`.
        positive: index of the positive class, for the threshold.
        seed: of everything random inside an epoch, a shuffling `DataLoader` included. The initial
            weights are the caller's. Torch's global generator is left as found.
        checkpoint: file to write the state to after each epoch and to resume from. A resumed run
            ends with the weights of one that was never stopped. With it, SIGINT and SIGTERM wait until the
            step has ended and is saved too.
        on_epoch: called after each epoch.
        extensions: of the training loop, such as `mirst.training.extensions.EMA`; their order counts.

    Raises:
        MirstError: settings that need `val` without one, or two classes where there are others; a defense that does
            not declare how it takes a share of its eps, class weights and, if it is set, label smoothing; data that can
            be iterated only once; a batch that `mirst.batches.checked_batch` refuses; a training batch of one image
            under batch norm; a model with nothing to train, without gradient, or whose output is not finite `(N, K)`
            logits, K >= 2 the number of classes; a checkpoint of another run.
        Diverged: a loss above 1e6, or a loss or weights that are not finite.

    >>> import torch
    >>> from mirst.defenses import CE
    >>> model, batch = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (torch.rand(4, 1, 8, 8), torch.arange(4) % 2)
    >>> fit(model, [batch], CE(), settings=Training(epochs=2)).epoch
    2
    """
    settings = settings or Training()
    require_trainable(model)
    require_defense(defense)
    with reference_mode(not settings.fast), in_fast_layout(model), modes_kept(model):
        defense = _checked(model, data, defense, val, settings, seed)
        run = TrainingRun(model, defense, settings, seed=seed, extensions=extensions)
        run.train(data, val, None if checkpoint is None else Path(checkpoint), on_epoch or (lambda _: None))
        return run.result(data if val is None else val, positive)


def _checked(
    model: nn.Module, data: Loader, defense: Defense, val: Loader | None, settings: Training, seed: int
) -> Defense:
    """Check what `fit` was given; the defense with the class weights and the label smoothing of `settings`."""
    if settings.needs_validation and val is None:
        raise MirstError(
            f"select={settings.select} and threshold={settings.operating_point} need validation images; pass val"
        )
    needs_classes = uses_labels(defense)
    with seeded_epoch(model, seed, 0):
        counts = class_counts(model, data, uses_labels=needs_classes)
    found: set[int] = set()
    if val is not None:
        with seeded_epoch(model, seed, 0):
            found = check_validation(model, val, len(counts) if needs_classes else None)
    _require_two_classes(settings, len(counts), found)
    defense = smoothed(defense, settings.label_smoothing)
    return balanced(defense, counts) if settings.class_weights == "balanced" else defense


def _require_two_classes(settings: Training, classes: int, found: Collection[int]) -> None:
    """Raise `MirstError` if a setting needs two classes, and the model or the validation images have others."""
    for setting, needs_two, other in (
        (f"threshold={settings.operating_point}", settings.threshold != "argmax", "argmax"),
        (f"select={settings.select}", settings.select == "best_robust_auc", "last"),
    ):
        if needs_two and classes != 2:
            raise MirstError(f"{setting} needs two classes, not {classes}; set it to {other}")
        if needs_two and len(found) < 2:
            raise MirstError(f"{setting} needs validation images of both classes; add some, or set it to {other}")


def balanced(defense: Defense, counts: Sequence[int]) -> Defense:
    """`defense` with weights inverse to the class counts, if it takes them.

    Raises:
        MirstError: a class without images.

    >>> from mirst.defenses import CE
    >>> balanced(CE(), [30, 10])
    CE(class_weights=(0.6666666666666666, 2.0), label_smoothing=0.0)
    """
    weighted = defense.with_class_weights(tuple(sum(counts) / (len(counts) * max(n, 1)) for n in counts))
    if weighted != defense and not all(counts):
        raise MirstError(f"class {counts.index(0)} has no training images; give some or set class_weights to none")
    return weighted
