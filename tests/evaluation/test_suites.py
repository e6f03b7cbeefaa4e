import pytest
import torch
from torch import nn

from mirst.attacks import APGD, FAB, MultiTargeted, Square, SurrogateBackward, Transfer
from mirst.evaluation.suites import adaptive, paper, standard, with_max_pool
from mirst.nn import DropMax2d, build_model, replace_first_max_pool
from tests.helpers import small_cnn, snapshot


def test_the_papers_attacks_are_as_published():
    attacks = paper(5 / 255).attacks
    assert {name: (getattr(a, "steps", 1), getattr(a, "step_size", None)) for name, a in attacks.items()} == {
        "fgsm": (1, None),
        "pgd": (20, 0.001),
        "cw": (10, 0.001),
    }


@pytest.mark.parametrize(
    ("classes", "names", "left_out"),
    [
        (2, ["apgd-ce", "apgd-margin", "fab", "square"], "APGD on DLR: the loss needs at least three classes"),
        (3, ["apgd-ce", "apgd-margin", "apgd-dlr", "fab", "square"], "APGD on targeted DLR"),
        (4, ["apgd-ce", "apgd-margin", "apgd-t", "fab", "square"], None),
    ],
)
def test_the_standard_set_by_number_of_classes(classes, names, left_out):
    suite = standard(0.1, classes)
    assert list(suite.attacks) == names
    assert {attack.eps for attack in suite.attacks.values()} == {0.1}
    assert [sentence.startswith(left_out or "") for sentence in suite.left_out] == ([True] if left_out else [])


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_every_attack_of_the_set_runs_on_any_number_of_classes(classes, batch):
    x, y = batch
    model = small_cnn(classes=classes).eval()
    attacks = standard(0.05, classes).attacks
    assert len(attacks) >= 4
    for attack in attacks.values():
        quick = _quick(attack)
        assert (quick(model, x, y, generator=torch.Generator().manual_seed(0)) - x).abs().max() <= 0.05 + 1e-6


def _quick(attack):
    if isinstance(attack, MultiTargeted):
        return MultiTargeted(attack=_quick(attack.attack))
    kind = type(attack)
    budget = {"queries": 20} if kind is Square else {"steps": 5}
    more = {"loss": attack.loss} if kind is APGD else {}
    assert kind in (APGD, FAB, Square)
    return kind(eps=attack.eps, targeted=attack.targeted, **budget, **more)


def test_the_adaptive_set_of_a_max_pool_model():
    suite = adaptive(0.1, 2, small_cnn())
    assert list(suite.attacks) == ["apgd-ce", "apgd-margin", "fab", "square", "apgd-restarts"]
    assert list(suite.stages) == ["standard", "adaptive"]
    assert suite.attacks["apgd-restarts"].restarts > 1
    assert sum("no drop-max layer" in s or "no source model" in s for s in suite.left_out) == 2
    source = small_cnn(seed=1)
    assert adaptive(0.1, 2, small_cnn(), source).attacks["transfer"].source_model is source


def test_the_adaptive_set_of_a_drop_max_model():
    model = replace_first_max_pool(small_cnn()).eval()
    before = snapshot(model)
    attacks = adaptive(0.1, 2, model).attacks
    assert list(attacks)[-3:] == ["surrogate-max", "surrogate-average", "transfer"]
    assert [attacks[f"surrogate-{way}"].backward for way in ("max", "average")] == ["max", "average"]
    assert isinstance(attacks["surrogate-max"], SurrogateBackward)
    assert isinstance(attacks["transfer"], Transfer)
    twin, x = attacks["transfer"].source_model, torch.rand(3, 1, 16, 16)
    assert torch.equal(twin(x), small_cnn().eval()(x))  # the same weights under max-pool
    assert snapshot(model) == before
    assert isinstance(model[3], DropMax2d)


def test_pools_are_swapped_in_a_copy_with_their_geometry():
    model = build_model("resnet_tiny", 1, 2, drop_max=True)
    twin = with_max_pool(model)
    assert isinstance(model.network.maxpool, DropMax2d)
    assert isinstance(twin.network.maxpool, nn.MaxPool2d)
    for name in ("kernel_size", "stride", "padding"):
        assert getattr(twin.network.maxpool, name) == getattr(model.network.maxpool, name)
