"""What every attack must hold."""

import copy

import pytest
import torch
from torch import nn

from mirst.attacks import ATTACKS
from mirst.errors import MirstError
from tests.helpers import small_cnn, snapshot

VARIANTS = [
    {},
    {"targeted": True},
    {"random_start": True},
    {"restarts": 3},
    {"eps": 0.0},
    {"eps": 0.3},
]


def build(name, fields):
    return ATTACKS[name](**fields)


every_variant = pytest.mark.parametrize("fields", VARIANTS, ids=lambda f: ",".join(f) or "defaults")
every_attack = pytest.mark.parametrize("name", ATTACKS)


@every_attack
@every_variant
def test_result_is_feasible_and_detached(name, fields, model, batch):
    x, y = batch
    before = x.clone()
    attacked = build(name, fields)(model, x, y)
    assert attacked.shape == x.shape
    assert attacked.dtype == x.dtype
    assert not attacked.requires_grad
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert (attacked - x).abs().max() <= fields.get("eps", 5 / 255) + 1e-7
    assert torch.equal(x, before)


@every_attack
@every_variant
def test_model_is_left_as_found(name, fields, batch):
    model = small_cnn()
    model.train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = snapshot(model)
    build(name, fields)(model, *batch)
    assert snapshot(model) == before


@every_attack
def test_model_is_left_as_found_when_it_fails(name, batch):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small_cnn()

        def forward(self, x):
            self.body(x)
            raise RuntimeError("as planned")

    model = Failing().train()
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="as planned"):
        build(name, {})(model, *batch)
    assert snapshot(model) == before


@every_attack
@every_variant
def test_runs_repeat(name, fields, model, batch):
    runs = [build(name, fields)(model, *batch, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*runs)


@every_attack
def test_the_generator_decides_the_random_start(name, model, batch):
    attack = build(name, {"random_start": True})
    a, b = (attack(model, *batch, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    assert not torch.equal(a, b)


@every_attack
def test_no_surrounding_mode_matters(name, model, batch):
    plain = build(name, {})(model, *batch)
    with torch.no_grad():
        assert torch.equal(build(name, {})(model, *batch), plain)
    with torch.inference_mode():
        assert torch.equal(build(name, {})(model, *batch), plain)
    assert torch.equal(build(name, {})(copy.deepcopy(model).train(), *batch), plain)


@every_attack
def test_the_loss_goes_the_right_way(name, model, batch):
    x, y = batch
    loss = nn.functional.cross_entropy
    with torch.no_grad():
        clean = loss(model(x), y)
        assert loss(model(build(name, {})(model, x, y)), y) > clean
        assert loss(model(build(name, {"targeted": True})(model, x, y)), y) < clean


@every_attack
def test_with_two_classes_targeted_equals_untargeted(name, model, batch):
    x, y = batch
    untargeted = build(name, {})(model, x, y)
    targeted = build(name, {"targeted": True})(model, x, 1 - y)
    torch.testing.assert_close(targeted, untargeted)


@every_attack
def test_more_restarts_never_reach_a_smaller_margin(name, batch):
    x, y = batch
    model = small_cnn(classes=3).eval()

    def margins(restarts):
        attack = build(name, {"restarts": restarts, "random_start": True, "eps": 0.1})
        logits = model(attack(model, x, y, generator=torch.Generator().manual_seed(0))).detach()
        own = logits[torch.arange(len(y)), y]
        logits[torch.arange(len(y)), y] = -torch.inf
        return logits.amax(1) - own

    one, many = margins(1), margins(4)
    assert (many >= one - 1e-6).all()
    assert (many > one).any()


@every_attack
def test_gradients_that_are_no_numbers_move_nothing(name, batch):
    class Broken(nn.Module):
        def forward(self, x):
            return (x.flatten(1)[:, :2] - x.flatten(1)[:, :2]).sqrt()

    attacked = build(name, {})(Broken(), *batch)
    assert attacked.isfinite().all()


@every_attack
def test_gray_stays_gray_and_float64_stays_float64(name, batch):
    x, y = batch
    attacked = build(name, {})(small_cnn().double().eval(), x.double(), y)
    assert attacked.dtype == torch.float64
    assert attacked.shape[1] == 1


@every_attack
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x * 255, y), "must lie in"),
        (lambda x, y: (x - 0.5, y), "must lie in"),
        (lambda x, y: (x * torch.nan, y), "must lie in"),
        (lambda x, y: (x[0], y), "floating point"),
        (lambda x, y: ((x * 255).byte(), y), "floating point"),
        (lambda x, y: (x, y[:2]), "labels must be"),
        (lambda x, y: (x, y.float()), "labels must be"),
    ],
)
def test_bad_batches_get_a_sentence(name, change, words, model, batch):
    with pytest.raises(MirstError, match=words):
        build(name, {})(model, *change(*batch))


@every_attack
@pytest.mark.parametrize("fields", [{"eps": -0.1}, {"eps": 5}, {"eps": float("nan")}, {"restarts": 0}])
def test_fields_out_of_range_get_a_sentence(name, fields):
    with pytest.raises(MirstError, match=next(iter(fields))):
        build(name, fields)


@every_attack
def test_attacks_are_frozen_and_keyword_only(name):
    with pytest.raises(AttributeError):
        build(name, {}).eps = 0.5
    with pytest.raises(TypeError):
        ATTACKS[name](0.5)
