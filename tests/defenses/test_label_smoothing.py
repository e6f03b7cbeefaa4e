import copy
import dataclasses
import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mirst.attacks import PGD
from mirst.defenses import CE, DEFENSES, MIRST, RST, BaseDefense, DefenseWrapper, LossTerms
from mirst.errors import MirstError
from mirst.nn import reference_mode
from mirst.training import SimCLR, Training, fit
from mirst.training.state import run_identity
from tests.contracts.test_defenses import CASES, CERTIFIED
from tests.defenses.interval_oracle import worst_case
from tests.helpers import small_cnn, without_dropout

SHARE, WEIGHTS = 0.1, (0.5, 2.0)
PLAIN = [name for name in DEFENSES if name not in CERTIFIED]
TRAINED_ON = {
    "ce": {0: 1.0},
    "gr": {0: 1.0},
    "at": {10: 1.0},
    "llr": {0: 1.0},
    "trades": {0: 1.0},
    "rst": {0: 1.0, 10: 1.0},
    "mirst": {0: 1.0, 10: 0.34, 9: 0.28, 8: 0.22, 7: 0.16},
}
"""The iterates whose cross-entropy is trained on, 0 the clean image, and their weights."""


def plain_cross_entropy(logits, y, class_weights, *_):
    """As it was before there was label smoothing."""
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    return nn.functional.cross_entropy(logits, y, weight=weight)


def slow_cross_entropy(logits, y, class_weights, share):
    """Image by image and class by class."""
    total, weights = 0.0, 0.0
    for row, label in zip(logits.log_softmax(1), y.tolist(), strict=True):
        weight = 1.0 if class_weights is None else class_weights[label]
        for k, log_p in enumerate(row):
            target = share / len(row) + (1 - share if k == label else 0)
            total = total - weight * target * log_p
        weights += weight
    return total / weights


def loss_and_gradients(defense, model, batch):
    model = copy.deepcopy(model)
    total = defense(model, *batch, generator=torch.Generator().manual_seed(0)).total
    total.backward()
    return [total.detach(), *(p.grad for p in model.parameters())]


def test_the_table_covers_every_defense():
    assert set(TRAINED_ON) == set(PLAIN)


@pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda v: v if isinstance(v, str) else ",".join(v))
def test_without_smoothing_the_loss_is_that_of_before_bit_for_bit(name, fields, batch, monkeypatch):
    defense, model = DEFENSES[name](**fields), without_dropout(small_cnn()).train()
    assert defense.label_smoothing == 0
    now = loss_and_gradients(defense, model, batch)
    module = "certified" if name in CERTIFIED else "instances" if name in ("rst", "mirst") else name
    monkeypatch.setattr(f"mirst.defenses.{module}.weighted_cross_entropy", plain_cross_entropy)
    before = loss_and_gradients(defense, model, batch)
    assert all(torch.equal(a, b) for a, b in zip(now, before, strict=True))


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", PLAIN)
def test_smoothing_changes_the_cross_entropies_that_are_trained_on(name, class_weights, batch):
    """By as much as an independent formula says, on images that plain PGD crafts: the attack is not smoothed."""
    x, y = batch
    model, plain = without_dropout(small_cnn()).eval(), DEFENSES[name](class_weights=class_weights)
    model[-1].weight.data.mul_(5)  # logits of some size, which smoothing pulls together
    smooth = plain.with_label_smoothing(SHARE)
    change = [b - a for a, b in zip(*(loss_and_gradients(d, model, batch) for d in (plain, smooth)), strict=True)]
    eps = PGD().eps
    expected = torch.zeros(())
    for steps, weight in TRAINED_ON[name].items():
        images = PGD(eps=eps, steps=steps, step_size=2 * eps / 10)(model, x, y) if steps else x
        slow = [slow_cross_entropy(model(images), y, class_weights, share) for share in (0.0, SHARE)]
        expected = expected + weight * (slow[1] - slow[0])
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    assert max(gradient.abs().max() for gradient in gradients) > 1e-3
    for one, other in zip(change, [expected.detach(), *gradients], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("name", ["ibp", "sabr", "mtlibp"])
def test_certified_defenses_smooth_their_cross_entropies(name, class_weights, batch):
    x, y = batch
    model = without_dropout(small_cnn()).eval()
    plain = DEFENSES[name](class_weights=class_weights, **({"kappa": 0.3} if name == "ibp" else {"steps": 2}))
    losses = [
        d(model, x, y, generator=torch.Generator().manual_seed(0)) for d in (plain, plain.with_label_smoothing(SHARE))
    ]
    eps = plain.eps
    moved = PGD(eps=eps, steps=2, step_size=eps, random_start=True)(
        model, x, y, generator=torch.Generator().manual_seed(0)
    )
    away, radius = (0.6 * eps, 0.4 * eps) if name == "sabr" else (0.0, eps)
    centre = torch.minimum(torch.maximum(moved, x - away), x + away)
    _, worst = worst_case(model, x, y, (centre - radius).clamp(0, 1), (centre + radius).clamp(0, 1))
    logits, weights = {
        "ibp": ((model(x), worst), (0.3, 0.7)),
        "sabr": ((worst,), (1.0,)),
        "mtlibp": ((model(moved), worst), (0.5, 0.5)),
    }[name]
    slow = [
        sum(w * slow_cross_entropy(z, y, class_weights, share) for z, w in zip(logits, weights, strict=True))
        for share in (0.0, SHARE)
    ]
    assert abs(slow[1] - slow[0]) > 1e-4
    for loss, expected in zip(losses, slow, strict=True):
        torch.testing.assert_close(loss.total, expected)


@pytest.mark.parametrize(
    ("name", "fields"),
    [(name, fields) for name, fields in CASES if not {"eps", "weight"} & set(fields) and name not in CERTIFIED],
    ids=lambda v: v if isinstance(v, str) else ",".join(v),
)
def test_the_model_sees_the_same_images_with_and_without_smoothing(name, fields, batch):
    def seen(share):
        model, images = without_dropout(small_cnn()).train(), []
        model.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0].detach().clone()))
        with reference_mode():
            DEFENSES[name](**fields, label_smoothing=share)(model, *batch, generator=torch.Generator().manual_seed(0))
        return images

    plain, smooth = seen(0.0), seen(SHARE)
    assert len(plain) == len(smooth) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain, smooth, strict=True))


@pytest.mark.parametrize("kind", [RST, MIRST])
@pytest.mark.parametrize("craft_mode", ["eval", "train"])
def test_the_optimized_passes_train_the_same_smoothed_loss(kind, craft_mode, batch):
    model = without_dropout(small_cnn()).train()
    defense = kind(joint_batch=False, craft_mode=craft_mode, label_smoothing=SHARE, class_weights=WEIGHTS)
    fast = loss_and_gradients(defense, model, batch)
    with reference_mode():
        slow = loss_and_gradients(defense, model, batch)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_optimum_of_a_balanced_batch_stays_balanced():
    """With class weights inverse to the counts, a model that ignores its input gives every class the same logit."""
    model, y = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.tensor([0, 0, 0, 1])
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    CE(class_weights=(4 / 6, 4 / 2), label_smoothing=0.3)(model, torch.rand(4, 1, 2, 2), y).total.backward()
    assert model[1].bias.grad.abs().max() < 1e-7


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_declares_how_it_takes_label_smoothing(name):
    defense = DEFENSES[name]()
    smooth = defense.with_label_smoothing(SHARE)
    assert smooth == dataclasses.replace(defense, label_smoothing=SHARE)
    assert smooth.with_label_smoothing(0.5) == smooth
    if hasattr(defense, "eps"):
        assert smooth.at_eps_share(0.0) == CE(label_smoothing=SHARE)
        assert smooth.at_eps_share(0.5).label_smoothing == SHARE
    for share in (-0.1, 1.0, math.nan):
        with pytest.raises(MirstError, match="label_smoothing is"):
            DEFENSES[name](label_smoothing=share)


@dataclass(frozen=True, kw_only=True)
class Doubled(DefenseWrapper):
    inner: object = CE()

    def __call__(self, model, x, y, *, generator=None):
        total, terms = self.inner(model, x, y, generator=generator)
        return LossTerms(2 * total, terms)


@dataclass(frozen=True, kw_only=True)
class Older(BaseDefense):
    """Written before there was label smoothing."""

    class_weights: tuple[float, ...] | None = None

    def __call__(self, model, x, y, *, generator=None):
        return CE(class_weights=self.class_weights)(model, x, y)


class OlderStill:
    """Derived from no base class."""

    def __call__(self, model, x, y, *, generator=None):
        return CE()(model, x, y)

    def at_eps_share(self, share):
        return self

    def with_class_weights(self, weights):
        return self


@pytest.mark.parametrize("defense", [CE(), RST(steps=2), Doubled()], ids=repr)
def test_fit_smooths_what_the_setting_says_in_every_epoch(defense, batch):
    """The setting trains as the field does, wrapped or bare, in the warm-up too."""
    settings = Training(epochs=3, warmup=0.4, ramp=0.0)
    by_setting, by_field, plain = (small_cnn() for _ in range(3))
    fit(by_setting, [batch], defense, settings=dataclasses.replace(settings, label_smoothing=SHARE))
    fit(by_field, [batch], defense.with_label_smoothing(SHARE), settings=settings)
    fit(plain, [batch], defense, settings=settings)
    same, other = ((by_setting[0].weight == model[0].weight).all() for model in (by_field, plain))
    assert same
    assert not other


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (Older(), "the defense Older has no field label_smoothing; add it and pass it to the cross-entropy, or set"),
        (Doubled(inner=Older()), "the defense Older has no field label_smoothing"),
        (OlderStill(), "the defense OlderStill has no with_label_smoothing; derive it from mirst.defenses.BaseDefense"),
    ],
)
def test_a_defense_that_does_not_take_it_is_refused_with_smoothing_alone(defense, words, batch):
    fit(small_cnn(), [batch], defense, settings=Training(epochs=1))
    with pytest.raises(MirstError, match=words):
        fit(small_cnn(), [batch], defense, settings=Training(epochs=1, label_smoothing=SHARE))


def test_an_objective_without_labels_is_trained_as_it_is():
    assert SimCLR().with_label_smoothing(SHARE) == SimCLR()


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_setting_out_of_range_gets_a_sentence(share):
    with pytest.raises(MirstError, match=r"label_smoothing is .*; it must be at least 0 and below 1"):
        Training(label_smoothing=share)


def test_runs_with_and_without_smoothing_differ_in_their_identity():
    texts = [
        run_identity(CE(), Training(), 0, ()),
        run_identity(CE(), Training(label_smoothing=SHARE), 0, ()),
        run_identity(CE(label_smoothing=SHARE), Training(), 0, ()),
        run_identity(Doubled(inner=CE(label_smoothing=SHARE)), Training(), 0, ()),
    ]
    assert len(set(texts)) == 4
    assert "label_smoothing" not in texts[0]
