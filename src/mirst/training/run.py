"""The training loop."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from mirst.attacks import PGD
from mirst.batches import Loader
from mirst.defenses import Defense
from mirst.errors import Diverged, MirstError
from mirst.metrics import youden_threshold
from mirst.nn import in_fast_layout, reference_mode
from mirst.nn.device import device_of
from mirst.training.checks import check_validation, class_counts, require_trainable
from mirst.training.epoch import Begun, Left, train_epoch
from mirst.training.modes import modes_kept
from mirst.training.settings import Training, has_field, with_class_weights
from mirst.training.signals import signals_held
from mirst.training.state import Epoch, State, load_state, save_state
from mirst.training.validation import balanced_accuracy_on, logits_on


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How the training went; the model itself was trained in place."""

    history: list[Epoch]
    epoch: int
    """Number of the epoch whose weights were kept."""
    threshold: float
    """Operating point on the log-odds of the positive class, for two classes."""
    collapsed: int | None
    """The one class that the model predicts for every validation (else training) image."""

    def __str__(self) -> str:
        kept = f"trained for {len(self.history)} epochs, kept epoch {self.epoch}"
        if self.collapsed is None:
            return kept
        return f"{kept}; collapsed: it predicts class {self.collapsed} for every image"


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
) -> FitResult:
    """Train `model` in place.

    Args:
        model: any module from `(N, C, H, W)` images in [0, 1] to `(N, K)` logits, on any device. On a CPU
            its weights are laid out channels last meanwhile, unless `settings.fast` is off. A model in train mode
            is trained with every layer in its own mode, so batch norms that were put into eval mode stay frozen;
            a model in eval mode is trained in train mode as a whole. All modes are left as found.
        data: batches as `mirst.batches.unpacked` takes them, a `DataLoader` for one; iterated once before the
            first epoch, to check them and count the classes, and once per epoch.
        defense: the training objective.
        val: batches to select and to set the operating threshold on; checked before the first epoch too.
        settings: defaults to `Training()`.
        positive: index of the positive class, for the threshold.
        seed: of everything random inside an epoch, a shuffling `DataLoader` included. The initial
            weights are the caller's. Torch's global generator is left as found.
        checkpoint: file to write the state to after each epoch and to resume from. A resumed run
            ends with the weights of one that was never stopped. With it, SIGINT and SIGTERM wait until the
            step has ended and is saved too.
        on_epoch: called after each epoch.

    Raises:
        MirstError: settings that need `val` without one; data that can be iterated only once; a batch that
            `mirst.batches.checked_batch` refuses; a training batch of one image under batch norm; a model with
            nothing to train, without gradient, or whose output is not finite `(N, K)` logits, K >= 2 the number of
            classes; a checkpoint of another run.
        Diverged: a loss above 1e6, or a loss or weights that are not finite.
    """
    settings = settings or Training()
    require_trainable(model)
    with reference_mode(not settings.fast), in_fast_layout(model), modes_kept(model):
        return _fit(model, data, defense, val, settings, positive, seed, checkpoint, on_epoch)


def _fit(
    model: nn.Module,
    data: Loader,
    defense: Defense,
    val: Loader | None,
    settings: Training,
    positive: int,
    seed: int,
    checkpoint: str | Path | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> FitResult:
    if settings.needs_validation and val is None:
        raise MirstError(
            f"select={settings.select} and threshold={settings.threshold} need validation images; pass val"
        )
    uses_labels = has_field(defense, "class_weights")
    with _seeded(model, seed, 0):
        counts = class_counts(model, data, uses_labels=uses_labels)
    if val is not None:
        with _seeded(model, seed, 0):
            check_validation(model, val, len(counts) if uses_labels else None)
    if settings.threshold == "youden" and len(counts) != 2:
        raise MirstError(f"threshold=youden needs two classes, not {len(counts)}; set it to argmax")
    if settings.class_weights == "balanced":
        defense = with_class_weights(defense, counts)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    run = repr((defense, settings, seed))
    path = None if checkpoint is None else Path(checkpoint)
    state = State(history=[]) if path is None else load_state(path, run, model, optimizer)

    with signals_held(path is not None) as stopped:
        while len(state.history) < settings.epochs:
            try:
                epoch = _epoch(model, data, defense, val, optimizer, settings, seed, state, stopped)
            except Left as left:
                assert path is not None
                state.begun = left.begun
                save_state(path, run, state, model, optimizer)
                raise KeyboardInterrupt from None
            state.history.append(epoch)
            state.begun = Begun()
            _keep_best(state, epoch, model, settings)
            if path is not None:
                save_state(path, run, state, model, optimizer)
            if on_epoch is not None:
                on_epoch(epoch)
            if stopped():
                raise KeyboardInterrupt

    if state.best_weights is not None:
        model.load_state_dict(state.best_weights)
    return _judge(model, val if val is not None else data, settings, positive, seed, state)


def _epoch(
    model: nn.Module,
    data: Loader,
    defense: Defense,
    val: Loader | None,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    seed: int,
    state: State,
    leave: Callable[[], bool],
) -> Epoch:
    """The epoch after those of `state`."""
    index, start = len(state.history), time.monotonic() - state.begun.seconds
    try:
        with _seeded(model, seed, index):
            current = settings.defense_at(defense, index)
            loss, terms = train_epoch(model, data, current, optimizer, settings, index, state.begun, leave)
    except Diverged as error:
        raise Diverged(f"training diverged in epoch {index + 1}: {error}", state.history) from error
    except Left as left:
        left.begun.seconds = time.monotonic() - start
        raise
    epoch = _validated(model, val, defense, settings, index, loss, terms)
    return replace(epoch, seconds=time.monotonic() - start)


def _validated(
    model: nn.Module,
    val: Loader | None,
    defense: Defense,
    settings: Training,
    index: int,
    loss: float,
    terms: dict[str, float],
) -> Epoch:
    clean = attacked = None
    if val is not None:
        clean = balanced_accuracy_on(model, val)
        if settings.select == "best_robust" and settings.eps_share(index) == 1:
            attacked = balanced_accuracy_on(model, val, selection_attack(defense))
    share = settings.eps_share(index) if has_field(defense, "eps") else 1.0
    return Epoch(number=index + 1, loss=loss, terms=terms, eps_share=share, clean=clean, attacked=attacked)


def selection_attack(defense: Defense) -> PGD:
    """The attack on the validation images that `select` asks for."""
    eps: float = getattr(defense, "eps", PGD().eps)
    return PGD(eps=eps, steps=10, step_size=2 * eps / 10 or 1.0)


def _keep_best(state: State, epoch: Epoch, model: nn.Module, settings: Training) -> None:
    if epoch.attacked is None or epoch.clean is None or settings.select == "last":
        return
    value = (epoch.clean + epoch.attacked) / 2
    if value >= state.best_value:
        state.best_epoch, state.best_value = epoch.number, value
        state.best_weights = {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def _judge(model: nn.Module, data: Loader, settings: Training, positive: int, seed: int, state: State) -> FitResult:
    with _seeded(model, seed, settings.epochs):
        logits, labels = logits_on(model, data)
    predicted, threshold = logits.argmax(1), 0.0
    if settings.threshold == "youden":
        log_odds = logits[:, positive] - logits[:, 1 - positive]
        threshold = youden_threshold(labels == positive, log_odds.numpy())
        predicted = torch.where(log_odds > threshold, positive, 1 - positive)
    answers = set(predicted.tolist())
    return FitResult(
        history=state.history,
        epoch=state.best_epoch or settings.epochs,
        threshold=threshold,
        collapsed=answers.pop() if len(answers) == 1 else None,
    )


@contextmanager
def _seeded(model: nn.Module, seed: int, epoch: int) -> Iterator[None]:
    """Torch's global generators seeded by seed and epoch, and put back afterwards."""
    device = device_of(model)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed((seed << 16) + epoch)
        yield
