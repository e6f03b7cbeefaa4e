"""Which epoch is kept: what the validation images say of each."""

from typing import NamedTuple

from torch import nn

from mirst.attacks import PGD
from mirst.batches import Loader
from mirst.defenses import Defense
from mirst.metrics import auc, balanced_accuracy
from mirst.training.settings import Training
from mirst.training.validation import log_odds, logits_on


class Validated(NamedTuple):
    """What an epoch gives on the validation images.

    >>> Validated(clean=0.75, attacked=0.5).attacked_auc is None
    True
    """

    clean: float | None = None
    """Balanced accuracy of the larger logit."""
    attacked: float | None = None
    """The same under `selection_attack`, if `select` needs the attack and the epoch is at full eps."""
    attacked_auc: float | None = None
    """AUC under the same attack, if `select` is `best_robust_auc`."""


def validated(model: nn.Module, data: Loader, defense: Defense, settings: Training, epoch: int) -> Validated:
    """Validate the weights after `epoch`, counted from 0."""
    logits, labels = logits_on(model, data)
    clean = balanced_accuracy(labels, logits.argmax(1).numpy())
    if settings.select == "last" or settings.eps_share(epoch) < 1:
        return Validated(clean)
    logits, labels = logits_on(model, data, selection_attack(defense))
    attacked = balanced_accuracy(labels, logits.argmax(1).numpy())
    if settings.select == "best_robust":
        return Validated(clean, attacked)
    return Validated(clean, attacked, auc(labels == 1, log_odds(logits, 1).numpy()))


def selection_value(found: Validated) -> float | None:
    """What the kept epoch has the largest of; `None` for an epoch that cannot be kept before the last one."""
    if found.attacked_auc is not None:
        return found.attacked_auc
    return None if found.clean is None or found.attacked is None else (found.clean + found.attacked) / 2


def selection_attack(defense: Defense) -> PGD:
    """The attack on the validation images that `select` and `threshold` ask for.

    It has the eps of the defense or of the paper, and ends at its last step whether an image is misclassified before or
    not. With two classes it pushes the log-odds of each positive image down and of each negative image up.
    """
    eps: float = getattr(defense, "eps", PGD().eps)
    return PGD(eps=eps, steps=10, step_size=2 * eps / 10 or 1.0)
