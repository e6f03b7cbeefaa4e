"""Whatever the model, an attack and a defense do to it what they do with every speed-up off."""

import warnings

import pytest
import torch
from torch import fx, nn

from mirst.attacks import APGD, CW, FAB, FGSM, PGD, Square
from mirst.defenses import AT, MIRST, RST, TRADES
from mirst.nn import reference_mode
from mirst.nn.accelerate.folded_batch_norms import folded
from tests.contracts.models import FAMILIES, TAKE_A_BOX, Flagged, family
from tests.helpers import seeded, snapshot, with_boxes

ATTACKS = [FGSM(), PGD(steps=5), CW(steps=5), APGD(steps=5), FAB(steps=3), Square(queries=20)]
DEFENSES = {
    "at": AT(steps=3),
    "trades": TRADES(steps=3),
    "rst one by one": RST(steps=3, joint_batch=False),
    "rst in train mode": RST(steps=3, craft_mode="train", joint_batch=False),
    "mirst in train mode": MIRST(steps=3, instances=(3, 2), weights=(0.6, 0.4), craft_mode="train"),
}
ROUNDING = {"quantisation-aware": {"rtol": 0.1, "atol": 0.02}}
"""Its activations are rounded to 256 values, so a float's last bit can move them by one."""
IN_EVAL_MODE = {"norm without statistics"}
NOT_COMPARED = {
    ("active dropout", "rst in train mode"),
    ("ensemble of fusions", "rst in train mode"),
    ("reads the norm", "rst in train mode"),
    ("weight by brightness", "rst one by one"),
    ("weight by brightness", "rst in train mode"),
}
"""Shared passes come in another order, so random draws and running statistics do too; and torch itself refuses several
passes of a model that writes its weights."""
every_family = pytest.mark.parametrize("name", FAMILIES)
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)


@pytest.fixture
def images(request):
    batch = torch.rand(6, 1, 16, 16, generator=seeded(1)), torch.arange(6) % 2
    called = getattr(request.node, "callspec", None)
    return with_boxes(*batch) if called and called.params.get("name") in TAKE_A_BOX else batch


@pytest.fixture(autouse=True)
def _quiet():
    """Whether a difference is warned of is asked below, once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gives different outputs")
        warnings.filterwarnings("ignore", message="Full backward hook is firing")  # torch's own remark
        yield


def attacked(attack, model, x, y):
    torch.manual_seed(0)
    return attack(model, x, y, generator=seeded())


def losses(model, x, y):
    torch.manual_seed(0)
    with torch.no_grad():
        return nn.functional.cross_entropy(model(x.clone()), y, reduction="none")


@every_family
@every_attack
def test_attacks_reach_what_they_reach_plainly(name, attack, images):
    x, y = images
    found = losses(family(name), attacked(attack, family(name), x, y), y)
    with reference_mode():
        expected = losses(family(name), attacked(attack, family(name), x, y), y)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-4)


@every_family
@every_attack
def test_attacks_leave_model_and_images_as_they_were(name, attack, images):
    x, y = images
    model = family(name)
    before, kept = snapshot(model), x.clone()
    assert not attacked(attack, model, x, y).requires_grad
    assert snapshot(model) == before
    assert torch.equal(x, kept)


@every_family
@pytest.mark.parametrize("defense", DEFENSES, ids=DEFENSES.keys())
def test_defenses_train_what_they_train_plainly(name, defense, images):
    if (name, defense) in NOT_COMPARED:
        pytest.skip("the order of passes matters to this model")

    def trained():
        model = family(name)
        model.train(name not in IN_EVAL_MODE)
        torch.manual_seed(0)
        total = DEFENSES[defense](model, *images, generator=seeded()).total
        total.backward()
        return total.detach(), *(p.grad for p in model.parameters())

    fast = trained()
    with reference_mode():
        slow = trained()
    assert sum(gradient is not None for gradient in slow) > 1
    for one, other in zip(fast, slow, strict=True):
        tolerance = ROUNDING.get(name, {"rtol": 5e-3, "atol": 1e-4})
        torch.testing.assert_close(one, other, **tolerance)  # also that both are None, for a layer unused


def test_a_flag_that_flips_between_two_attacks_counts(images):
    model, attack = Flagged().eval(), PGD(steps=5)
    nn.init.constant_(model.norm.running_var, 0.1)
    for model.use_norm in (True, False, True):
        found = losses(model, attacked(attack, model, *images), images[1])
        with reference_mode():
            torch.testing.assert_close(found, losses(model, attacked(attack, model, *images), images[1]))


@every_family
def test_nothing_of_a_trace_stays(name, images):
    model = family(name)
    attacked(FGSM(), model, *images)
    kept = [value for layer in model.modules() for value in vars(layer).values()]
    assert kept
    assert not any(isinstance(value, fx.Proxy) for value in kept)
    assert "kept" not in vars(model) or name in ("keeps a feature", "keeps once")


@pytest.mark.parametrize(
    "name", ["plain", "ensemble", "ensemble of fusions", "keeps a feature", "norm of two names", "box fusion"]
)
def test_ordinary_models_are_folded(name, images):
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded(family(name)).modules())


@pytest.mark.parametrize("name", ["reads through a leaf", "branch by gradient mode"])
def test_what_no_rule_sees_is_found_by_comparison_and_warned_of_once(name, images):
    model = family(name)
    with pytest.warns(UserWarning, match="gives different outputs"):
        attacked(FGSM(), model, *images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attacked(FGSM(), model, *images)
