"""The attack suites behind a robustness number."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from mirst.attacks import (
    APGD,
    CW,
    FAB,
    FGSM,
    PGD,
    Attack,
    Expectation,
    MultiTargeted,
    Square,
    StandIn,
    StandIns,
    SurrogateBackward,
    Transfer,
)
from mirst.nn import DropMax2d

SuiteName = Literal["paper", "standard", "adaptive"]
"""The suites of attacks."""
RESTARTS = 5


@dataclass(frozen=True)
class AttackSuite:
    """Attacks in the order in which they are run.

    >>> list(paper(eps=5 / 255).attacks)
    ['fgsm', 'pgd', 'cw']
    """

    name: SuiteName
    stages: Mapping[str, Mapping[str, Attack]]
    """The attacks of each stage, by the name of its result; the result of the last stage is that of the suite."""
    left_out: tuple[str, ...] = ()
    """Attacks that do not apply to this model, and why, one sentence each."""

    @property
    def attacks(self) -> dict[str, Attack]:
        """Of all stages."""
        return {name: attack for stage in self.stages.values() for name, attack in stage.items()}


def paper(eps: float) -> AttackSuite:
    """FGSM, PGD-20 and CW-10 with steps of 0.001, as in the evaluation of MIRST-DM; weak by its settings."""
    return AttackSuite("paper", {"paper": {"fgsm": FGSM(eps=eps), "pgd": PGD(eps=eps), "cw": CW(eps=eps)}})


def standard(eps: float, classes: int) -> AttackSuite:
    """APGD on cross-entropy from a random point and on the margin from the image, FAB and Square.

    It follows AutoAttack (Croce and Hein 2020) for any number of classes. With two classes the margin replaces
    DLR, which needs three. With three classes APGD on DLR is added. With four or more, APGD on targeted DLR
    and FAB aim at each of the nine most likely wrong classes, as AutoAttack's standard set does.

    Args:
        eps: radius, in units of the [0, 1] pixel range.

    >>> list(standard(eps=5 / 255, classes=2).attacks)
    ['apgd-ce', 'apgd-margin', 'fab', 'square']
    """
    attacks: dict[str, Attack] = {
        "apgd-ce": APGD(eps=eps, loss="ce"),
        "apgd-margin": APGD(eps=eps, loss="margin", random_start=False),
    }
    left_out: tuple[str, ...] = ()
    if classes == 2:
        left_out = ("APGD on DLR: the loss needs at least three classes; with two classes the margin loss is used.",)
    elif classes == 3:
        attacks["apgd-dlr"] = APGD(eps=eps, loss="dlr")
        left_out = ("APGD on targeted DLR: the loss needs at least four classes.",)
    else:
        attacks["apgd-t"] = MultiTargeted(attack=APGD(eps=eps, loss="dlr", targeted=True))
    attacks["fab"] = FAB(eps=eps) if classes < 4 else MultiTargeted(attack=FAB(eps=eps, targeted=True))
    attacks["square"] = Square(eps=eps)
    return AttackSuite("standard", {"standard": attacks}, left_out)


def adaptive(
    eps: float,
    classes: int,
    model: nn.Module,
    source: nn.Module | None = None,
    stand_ins: StandIns | None = None,
    draws: int = 1,
) -> AttackSuite:
    """`standard`, then restarts, attacks with stand-ins or several draws, and attacks on drop-max layers.

    A model with drop-max layers is attacked with surrogate gradients and by transfer from a max-pool model.

    Args:
        model: the model that will be attacked; here only its layers are inspected.
        source: the model to transfer from, the same network trained with the other pooling. By default, for a model
            with drop-max, a copy of `model` with max-pool.
        stand_ins: by layer, the module that is differentiated in its place.
        draws: number of calls of a randomised model that a gradient is averaged over.
    """
    suite, margin = standard(eps, classes), APGD(eps=eps, loss="margin")
    attacks: dict[str, Attack] = {"apgd-restarts": replace(margin, restarts=RESTARTS)}
    left_out = list(suite.left_out)
    if stand_ins or draws != 1:
        attacks["adapted-margin"] = _adapted(margin, stand_ins, draws)
        attacks["adapted-ce"] = _adapted(replace(margin, loss="ce"), stand_ins, draws)
    if has_drop_max(model):
        attacks["surrogate-max"] = SurrogateBackward(attack=margin, backward="max")
        attacks["surrogate-average"] = SurrogateBackward(attack=margin, backward="average")
        source = with_max_pool(model) if source is None else source
    else:
        left_out.append("Surrogate gradients: the model has no drop-max layer.")
    if source is None:
        left_out.append("Transfer: no source model was given.")
    else:
        attacks["transfer"] = Transfer(source_model=source, attack=margin)
    return AttackSuite("adaptive", {**suite.stages, "adaptive": attacks}, tuple(left_out))


def _adapted(attack: Attack, stand_ins: StandIns | None, draws: int) -> Attack:
    averaged = attack if draws == 1 else Expectation(attack=attack, draws=draws)
    return StandIn(attack=averaged, stand_ins=stand_ins) if stand_ins else averaged


def has_drop_max(model: nn.Module) -> bool:
    return any(isinstance(layer, DropMax2d) for layer in model.modules())


def with_max_pool(model: nn.Module) -> nn.Module:
    """A copy of `model` with the same weights and max-pool layers of the same geometry in place of drop-max."""
    copied = copy.deepcopy(model)
    for parent in list(copied.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, DropMax2d):
                setattr(parent, name, nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding))
    return copied
