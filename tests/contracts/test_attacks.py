"""What every attack must hold."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from mirst.attacks import APGD, ATTACKS, PGD, MultiTargeted, SurrogateBackward, Transfer
from mirst.errors import MirstError
from mirst.nn import replace_first_max_pool
from tests.helpers import misclassified, on_the_fence, seeded, slow_margin, small_cnn, snapshot

BUDGETS = {"apgd": {"steps": 10}, "fab": {"steps": 10}, "square": {"queries": 60}}

VARIANTS = [
    {"targeted": True},
    {"random_start": True},
    {"random_start": False},
    {"loss": "margin"},
    {"restarts": 3},
    {"eps": 0.0},
    {"eps": 0.3},
]

COMPOSITES = {
    "transfer": Transfer(source_model=small_cnn(seed=1), attack=PGD(steps=3)),
    "surrogate": SurrogateBackward(attack=PGD(steps=3)),
    "surrogate average": SurrogateBackward(attack=PGD(steps=3), backward="average"),
    "multi-targeted pgd": MultiTargeted(attack=PGD(steps=3, targeted=True)),
    "multi-targeted apgd": MultiTargeted(attack=APGD(steps=3, targeted=True)),
}


def build(name, **chosen):
    return ATTACKS[name](**BUDGETS.get(name, {}), **chosen)


def variants(name):
    """The attack as it comes, and with each of `VARIANTS` that it has and that is not its default."""
    plain = build(name)
    chosen = [v for v in VARIANTS for key, value in v.items() if getattr(plain, key, value) != value]
    return {name: plain} | {f"{name} {v}": replace(plain, **v) for v in chosen}


ALL = {label: attack for name in ATTACKS for label, attack in variants(name).items()} | COMPOSITES

every_variant = pytest.mark.parametrize("attack", ALL.values(), ids=ALL)
every_attack = pytest.mark.parametrize("name", ATTACKS)
each_way = pytest.mark.parametrize(
    "attack", [build(name) for name in ATTACKS] + list(COMPOSITES.values()), ids=[*ATTACKS, *COMPOSITES]
)


@pytest.fixture
def model(batch):
    """One that every attack can break."""
    return on_the_fence(small_cnn(), batch[0])


@every_variant
def test_result_is_feasible_and_detached(attack, model, batch):
    x, y = batch
    before = x.clone()
    attacked = attack(replace_first_max_pool(model), x, y)
    assert attacked.shape == x.shape
    assert attacked.dtype == x.dtype
    assert not attacked.requires_grad
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert (attacked - x).abs().max() <= attack.eps + 1e-7
    assert torch.equal(x, before)


@every_variant
def test_model_is_left_as_found(attack, batch):
    model = replace_first_max_pool(small_cnn())
    model.train()
    model[1].eval()
    model[4].weight.requires_grad_(False)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = snapshot(model)
    attack(model, *batch)
    assert snapshot(model) == before


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = replace_first_max_pool(small_cnn())

    def forward(self, x):
        self.body(x)
        raise RuntimeError("as planned")


@each_way
def test_model_is_left_as_found_when_it_fails(attack, batch):
    model = Failing().train()
    if isinstance(attack, Transfer):
        attack = replace(attack, source_model=model)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="as planned"):
        attack(model, *batch)
    assert snapshot(model) == before


@every_variant
def test_runs_repeat(attack, model, batch):
    runs = [attack(replace_first_max_pool(copy.deepcopy(model)), *batch, generator=seeded(3)) for _ in range(2)]
    assert torch.equal(*runs)


@every_attack
def test_the_generator_decides_what_is_random(name, model, batch):
    attack = build(name, eps=0.3)
    if hasattr(attack, "random_start"):
        attack = replace(attack, random_start=True)
    a, b = (attack(model, *batch, generator=seeded(seed)) for seed in (3, 4))
    assert not torch.equal(a, b)


@each_way
def test_no_surrounding_mode_matters(attack, model, batch):
    plain = attack(model, *batch, generator=seeded())
    with torch.no_grad():
        assert torch.equal(attack(model, *batch, generator=seeded()), plain)
    with torch.inference_mode():
        assert torch.equal(attack(model, *batch, generator=seeded()), plain)
    assert torch.equal(attack(copy.deepcopy(model).train(), *batch, generator=seeded()), plain)


@every_attack
def test_the_loss_goes_the_right_way(name, model, batch):
    x, y = batch
    loss = nn.functional.cross_entropy
    with torch.no_grad():
        clean = loss(model(x), y)
        assert loss(model(build(name, eps=0.3)(model, x, y, generator=seeded())), y) > clean
        assert loss(model(build(name, eps=0.3, targeted=True)(model, x, y, generator=seeded())), y) < clean


@every_attack
def test_with_two_classes_targeted_equals_untargeted(name, model, batch):
    x, y = batch
    untargeted = build(name)(model, x, y, generator=seeded())
    targeted = build(name, targeted=True)(model, x, 1 - y, generator=seeded())
    torch.testing.assert_close(targeted, untargeted)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "fab"])  # it cares for distance, not margin
def test_more_restarts_never_reach_a_smaller_margin(name, batch):
    x, y = batch
    model = on_the_fence(small_cnn(classes=3), x)

    def margins(restarts):
        attack = build(name, restarts=restarts, eps=0.005)
        if hasattr(attack, "random_start"):
            attack = replace(attack, random_start=True)
        return slow_margin(model(attack(model, x, y, generator=seeded())), y)

    one, many = margins(1), margins(4)
    assert (many >= one - 1e-6).all()
    assert (many > one).any()


@every_attack
def test_more_restarts_never_lose_a_success(name, batch):
    x, y = batch
    model = on_the_fence(small_cnn(classes=3), x)
    once, often = (
        misclassified(model, build(name, restarts=n, eps=0.05)(model, x, y, generator=seeded()), y) for n in (1, 4)
    )
    assert once.any()
    assert (often >= once).all()


@every_attack
def test_gradients_that_are_no_numbers_move_nothing(name, batch):
    class Broken(nn.Module):
        def forward(self, x):
            return (x.flatten(1)[:, :2] - x.flatten(1)[:, :2]).sqrt()

    attacked = build(name)(Broken(), *batch)
    assert attacked.isfinite().all()


@every_attack
def test_gray_stays_gray_and_float64_stays_float64(name, batch):
    x, y = batch
    attacked = build(name)(small_cnn().double().eval(), x.double(), y)
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
        build(name)(model, *change(*batch))


@every_attack
@pytest.mark.parametrize("wrong", [{"eps": -0.1}, {"eps": 5}, {"eps": float("nan")}, {"restarts": 0}])
def test_fields_out_of_range_get_a_sentence(name, wrong):
    with pytest.raises(MirstError, match=next(iter(wrong))):
        build(name, **wrong)


@every_attack
def test_attacks_are_frozen_and_keyword_only(name):
    with pytest.raises(AttributeError):
        build(name).eps = 0.5
    with pytest.raises(TypeError):
        ATTACKS[name](0.5)


class Cut(nn.Module):
    """No gradient path leads through it."""

    def __init__(self, body, cut):
        super().__init__()
        self.body, self.cut = body, cut

    def forward(self, x):
        return self.cut(self.body, x)


def _under_no_grad(body, x):
    with torch.no_grad():
        return body(x)


CUTS = {
    "no_grad": _under_no_grad,
    "detached": lambda body, x: body(x).detach(),
    "detached input": lambda body, x: body(x.detach()),
    "thermometer": lambda body, x: body((x > 0.5).to(x.dtype)),
    "vote": lambda body, x: nn.functional.one_hot(body(x).argmax(1), 2).to(x.dtype),
    "constant": lambda body, x: x.new_tensor([[1.0, 0.0]]).expand(len(x), 2),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@each_way
def test_without_a_gradient_path_attacks_run_to_their_end(attack, cut, batch):
    x, y = batch
    attacked = attack(Cut(small_cnn().eval(), cut), x, y, generator=seeded())
    assert (attacked - x).abs().max() <= attack.eps + 1e-7
    assert not attacked.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("given", [torch.float32, torch.float16, torch.bfloat16])
@every_attack
def test_models_in_half_precision_are_attacked_in_float32(name, dtype, given, batch):
    x, y = batch
    x = x.to(given)
    model, attack = small_cnn().eval().to(dtype), build(name, eps=0.1)
    attacked = attack(model, x, y, generator=seeded())
    assert attacked.dtype == torch.float32
    assert (attacked - x.float()).abs().max() <= 0.1 + 1e-6


@every_variant
def test_results_are_detached_whatever_the_images_were(attack, model, batch):
    x, y = batch
    model = replace_first_max_pool(model)
    attacked = attack(model, x.clone().requires_grad_(True), y, generator=seeded())
    assert not attacked.requires_grad
    assert torch.equal(attacked, attack(model, x, y, generator=seeded()))


class NotANumber(nn.Module):
    """NaN where the first pixel is bright, which an attack can reach."""

    def __init__(self):
        super().__init__()
        self.body = small_cnn().eval()

    def forward(self, x):
        return torch.where(x[:, :, :1, :1].flatten(1) > 0.6, torch.nan, self.body(x))


@every_attack
def test_logits_that_are_not_finite_are_misclassified(name, batch):
    """An image that is NaN as it is counts as misclassified from the start, and every result is finite."""
    x, y = batch
    x = x.clone()
    x[:2, :, 0, 0], x[2:, :, 0, 0] = 0.9, 0.1
    attacked = build(name)(NotANumber(), x, y, generator=seeded())
    assert attacked.isfinite().all()
    assert (attacked - x).abs().max() <= 5 / 255 + 1e-7


@every_attack
@pytest.mark.parametrize("labels", [[1, 2, 1, 2], [-100, 0, 1, 0], [0, 1, 0, 7]])
def test_labels_that_are_no_classes_of_the_model_get_a_sentence(name, labels, model, batch):
    x, _ = batch
    y = torch.tensor(labels * len(x))[: len(x)]
    with pytest.raises(MirstError, match="label"):
        build(name)(model, x, y)
