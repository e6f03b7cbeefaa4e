"""The training loop, between any two steps of which a training can stop and resume."""

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mirst.batches import Loader, checked_batches
from mirst.defenses import Defense
from mirst.defenses.base import has_eps
from mirst.errors import Diverged, MirstError
from mirst.nn.device import device_of
from mirst.training.epoch import Interrupted, PartialEpoch, generator_states, seeded_epoch, set_generators
from mirst.training.extensions import Extension
from mirst.training.extensions.base import require_extension
from mirst.training.modes import to_train_mode
from mirst.training.selection import Validated, selection_attack, selection_value, validated
from mirst.training.settings import Training
from mirst.training.signals import signals_held
from mirst.training.state import Epoch, epochs_of, read_state, run_identity, write_state
from mirst.training.validation import log_odds, logits_on

LARGEST_LOSS = 1e6
"""A training with a larger loss has diverged."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How the training went; the model itself was trained in place.

    >>> print(FitResult(history=[], epoch=3, threshold=0.0, collapsed=1))
    trained for 0 epochs, kept epoch 3; collapsed: the model predicts class 1 for every image
    """

    history: list[Epoch]
    epoch: int
    """Number of the epoch whose weights were kept."""
    threshold: float
    """Operating point on the log-odds of the positive class, for two classes."""
    threshold_rule: str = "argmax"
    """Which rule gave the threshold, as `Training.threshold` in YAML."""
    collapsed: int | None
    """The class that the model predicts for every validation image (training image without validation), if it does."""

    def __str__(self) -> str:
        kept = f"trained for {len(self.history)} epochs, kept epoch {self.epoch}"
        if self.collapsed is None:
            return kept
        return f"{kept}; collapsed: the model predicts class {self.collapsed} for every image"


class TrainingRun:
    """A model in training: what all of its steps share, and what a checkpoint saves between two of them.

    `fit` checks its arguments; this class does not.

    >>> from mirst.defenses import CE
    >>> model, batch = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (torch.rand(4, 1, 8, 8), torch.arange(4) % 2)
    >>> loss, terms = TrainingRun(model, CE(), Training()).train_epoch([batch], 0)
    >>> list(terms)
    ['clean']
    """

    def __init__(
        self,
        model: nn.Module,
        defense: Defense,
        settings: Training,
        *,
        seed: int = 0,
        extensions: Sequence[Extension] = (),
    ) -> None:
        for extension in extensions:
            require_extension(extension)
        self.model, self.defense, self.settings, self.seed = model, defense, settings, seed
        self.identity = run_identity(defense, settings, seed, extensions)
        self.optimizer = settings.build_optimizer(model.parameters())
        self.history: list[Epoch] = []
        self.partial = PartialEpoch()
        """The steps of the epoch after those of `history`."""
        self.best_epoch: int | None = None
        self.best_value = -1.0
        self.best_weights: dict[str, Tensor] | None = None
        self.extensions = copy.deepcopy(list(extensions))
        with seeded_epoch(model, seed, 0):
            for extension in self.extensions:
                extension.start(model)
        self._averaged()  # says before the first step that two extensions give weights

    def train(
        self, data: Loader, val: Loader | None, checkpoint: Path | None, on_epoch: Callable[[Epoch], None]
    ) -> None:
        """Train the epochs that `checkpoint` lacks, then give the model the weights that are kept."""
        if checkpoint is not None:
            self.load(checkpoint)
        with signals_held(checkpoint is not None) as stopped:
            while len(self.history) < self.settings.epochs:
                try:
                    self.run_epoch(data, val, stopped)
                except Interrupted:
                    assert checkpoint is not None  # signals are held only with one
                    self.save(checkpoint)
                    raise KeyboardInterrupt from None
                if checkpoint is not None:
                    self.save(checkpoint)
                on_epoch(self.history[-1])
                if stopped():
                    raise KeyboardInterrupt
        kept = self.best_weights if self.best_weights is not None else self._averaged()
        if kept is not None:
            _load(self.model, kept)

    def run_epoch(self, data: Loader, val: Loader | None, should_stop: Callable[[], bool]) -> None:
        """Train and validate the epoch after those of `history`, and append it.

        Raises:
            Diverged: as for `fit`.
            Interrupted: `should_stop` returned true after a step; `partial` holds the steps so far.
        """
        index, start = len(self.history), time.monotonic() - self.partial.seconds
        try:
            with seeded_epoch(self.model, self.seed, index):
                loss, terms = self.train_epoch(data, index, should_stop)
        except Diverged as error:
            raise Diverged(f"training diverged in epoch {index + 1}: {error}", self.history) from error
        except Interrupted:
            self.partial.seconds = time.monotonic() - start
            raise
        with self.evaluated():
            found = Validated() if val is None else validated(self.model, val, self.defense, self.settings, index)
            self._keep_best(index + 1, selection_value(found))
        self.history.append(
            Epoch(
                number=index + 1,
                loss=loss,
                terms=terms,
                eps_share=self.settings.eps_share(index) if has_eps(self.defense) else 1.0,
                **found._asdict(),
                seconds=time.monotonic() - start,
            )
        )

    def train_epoch(
        self, data: Loader, index: int, should_stop: Callable[[], bool] = lambda: False
    ) -> tuple[float, dict[str, float]]:
        """Train on every batch once, with the learning rate and the share of eps of epoch `index`, from 0.

        Resumes after the steps of `partial`; torch's generator must be seeded as before the first of them.

        Returns:
            Means of the loss and of its terms over the batches.

        Raises:
            MirstError: no batch, or one that `mirst.batches.checked_batches` refuses.
            Diverged: a loss above 1e6, or a loss or weights that are not finite.
            Interrupted: `should_stop` returned true after a step.
        """
        device = device_of(self.model)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr_at(index)
        to_train_mode(self.model)
        defense = self.settings.defense_at(self.defense, index)
        losses, sums = list(self.partial.losses), defaultdict(float, self.partial.terms)
        rest = checked_batches(data, "training batch")
        for _ in losses:
            next(rest)  # the first one draws the order of the images
        set_generators(self.partial.generators, device)
        for x, y in rest:
            loss, terms = self._step(defense, x.to(device), y.to(device))
            losses.append(loss)
            for name, value in terms.items():
                sums[name] += value
            if should_stop():
                self.partial = PartialEpoch(losses, dict(sums), generator_states(device))
                raise Interrupted
        self.partial = PartialEpoch()
        if not losses:
            raise MirstError("the training data give no batch")
        if not all(p.isfinite().all() for p in self.model.parameters()):
            raise Diverged("the weights are not finite; lower training.lr")
        return sum(losses) / len(losses), {name: value / len(losses) for name, value in sums.items()}

    def _step(self, defense: Defense, x: Tensor, y: Tensor) -> tuple[float, dict[str, float]]:
        with ExitStack() as around:
            for extension in self.extensions:
                around.enter_context(extension.around_loss(self.model, lambda: defense(self.model, x, y).total))
            self.optimizer.zero_grad(set_to_none=True)
            total, terms = defense(self.model, x, y)
            loss = total.item()
            if not loss <= LARGEST_LOSS:  # also catches NaN
                raise Diverged(f"the loss is {loss:.3g}; lower training.lr")
            total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        for extension in self.extensions:
            extension.after_step(self.model)
        return loss, terms

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside, the model has the weights that are evaluated: its own, or those of an extension."""
        weights = self._averaged()
        if weights is None:
            yield
            return
        own = _copied(self.model)
        _load(self.model, weights)
        try:
            yield
        finally:
            _load(self.model, own)

    def _averaged(self) -> dict[str, Tensor] | None:
        found = [(e, weights) for e in self.extensions if (weights := e.evaluation_weights()) is not None]
        if len(found) > 1:
            names = " and ".join(type(extension).__name__ for extension, _ in found)
            raise MirstError(f"the extensions {names} both give weights for evaluation; use one of them")
        return found[0][1] if found else None

    def _keep_best(self, number: int, value: float | None) -> None:
        if value is not None and value >= self.best_value:
            self.best_epoch, self.best_value, self.best_weights = number, value, _copied(self.model)

    def result(self, data: Loader, positive: int) -> FitResult:
        """Set the threshold of the trained model on `data`, and look for a collapse."""
        point = self.settings.operating_point
        with seeded_epoch(self.model, self.seed, self.settings.epochs):
            logits, labels = logits_on(self.model, data)
            attack = selection_attack(self.defense)
            # with labels of its own: a loader may shuffle
            seen, truth = logits_on(self.model, data, attack) if point.robust else (logits, labels)
        predicted, threshold = logits.argmax(1), 0.0
        if point.rule != "argmax":
            threshold = point.threshold(truth == positive, log_odds(seen, positive).numpy())
            predicted = torch.where(log_odds(logits, positive) > threshold, positive, 1 - positive)
        classes = set(predicted.tolist())
        return FitResult(
            history=self.history,
            epoch=self.best_epoch or self.settings.epochs,
            threshold=threshold,
            threshold_rule=str(point),
            collapsed=classes.pop() if len(classes) == 1 else None,
        )

    def save(self, path: Path) -> None:
        """Write all that the next step depends on, apart from the data."""
        content = {
            "run": self.identity,
            "history": [asdict(epoch) for epoch in self.history],
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
            "best_weights": self.best_weights,
            "begun": asdict(self.partial),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "extensions": [extension.state_dict() for extension in self.extensions],
        }
        write_state(path, content)

    def load(self, path: Path) -> None:
        """Restore what `save` wrote; nothing where there is no file.

        Raises:
            MirstError: as for `mirst.training.state.read_state`.
        """
        content = read_state(path, self.identity)
        if content is None:
            return
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        for extension, state in zip(self.extensions, content.get("extensions", ()), strict=True):
            extension.load_state_dict(state)
        self.history, self.partial = epochs_of(content), PartialEpoch(**content["begun"])
        self.best_epoch, self.best_value = content["best_epoch"], content["best_value"]
        self.best_weights = content["best_weights"]


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    model.load_state_dict({**model.state_dict(), **weights})
