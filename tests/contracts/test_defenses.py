"""What every defense must hold."""

import copy

import pytest
import torch
from torch import nn

from mirst.defenses import CE, DEFENSES
from mirst.errors import MirstError
from tests.helpers import small_cnn, snapshot, without_dropout

VARIANTS = {
    "ce": [{}, {"class_weights": (0.5, 2.0)}],
    "gr": [{}, {"weight": 5.0}, {"class_weights": (0.5, 2.0)}],
    "at": [{}, {"craft_mode": "train"}, {"class_weights": (0.5, 2.0)}, {"eps": 0.0}],
    "llr": [{}, {"craft_mode": "train"}, {"joint_batch": False}, {"class_weights": (0.5, 2.0)}, {"eps": 0.0}],
    "trades": [{}, {"craft_mode": "train"}, {"joint_batch": False}, {"weight": 6.0}, {"class_weights": (0.5, 2.0)}],
    "rst": [{}, {"craft_mode": "train"}, {"joint_batch": False}, {"class_weights": (0.5, 2.0)}, {"eps": 0.0}],
    "mirst": [
        {},
        {"craft_mode": "train"},
        {"joint_batch": False},
        {"instances": (3, 7), "weights": (0.1, 0.9)},
        {"step_size": 0.001, "alpha": 3.0},
        {"random_start": True},
    ],
    "ibp": [{}, {"kappa": 0.0}, {"eps_share": 0.5}, {"class_weights": (0.5, 2.0)}, {"eps": 0.0}],
    "crownibp": [{}, {"beta": 0.5}, {"eps_share": 0.5}, {"class_weights": (0.5, 2.0)}, {"eps": 0.0}],
    "sabr": [{}, {"small_box": 1.0}, {"eps_share": 0.5}, {"craft_mode": "train"}, {"class_weights": (0.5, 2.0)}],
    "mtlibp": [{}, {"alpha": 1.0}, {"eps_share": 0.5}, {"craft_mode": "train"}, {"class_weights": (0.5, 2.0)}],
}
CERTIFIED = ("ibp", "crownibp", "sabr", "mtlibp")
"""They see clean images in the only pass that trains, and need a model whose every layer has bounds."""
WITHOUT = {
    "gr": {"weight": 0.0},
    "llr": {"linearity_weight": 0.0, "gradient_weight": 0.0},
    "trades": {"weight": 0.0},
    "rst": {"alpha": 0.0},
    "mirst": {"alpha": 0.0},
}
"""The weights that turn a defense into plain training; AT has none."""
BALL = {"eps": -1.0, "steps": 0, "step_size": 0.0, "craft_mode": "both"}
CASES = [(name, fields) for name, variants in VARIANTS.items() for fields in variants]
every_case = pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda v: v if isinstance(v, str) else ",".join(v))


def test_the_contract_covers_every_defense():
    assert set(VARIANTS) == set(DEFENSES)


@every_case
def test_total_is_a_finite_scalar_that_trains(name, fields, batch):
    model = small_cnn().train()
    total, terms = DEFENSES[name](**fields)(model, *batch)
    assert total.shape == ()
    assert total.isfinite()
    assert all(isinstance(value, float) for value in terms.values())
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_case
def test_modes_and_grad_are_left_as_found(name, fields, batch):
    model = small_cnn().train()
    model[1].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = snapshot(model)
    DEFENSES[name](**fields)(model, *batch)
    after = snapshot(model)
    assert {**after, "state": None} == {**before, "state": None}


@every_case
def test_crafting_leaves_no_trace_in_batch_norm(name, fields, batch):
    """In an all-eval model nothing may move the buffers; in train mode only the training pass does."""
    model = small_cnn().eval()
    before = snapshot(model)
    DEFENSES[name](**fields)(model, *batch)
    assert snapshot(model) == before

    model = small_cnn().train()
    DEFENSES[name](**fields)(model, *batch)
    passes = 1 if name in CERTIFIED or fields.get("joint_batch", True) else (5 if name == "mirst" else 2)
    assert model[1].num_batches_tracked == 1 + passes


@every_case
def test_it_repeats(name, fields, batch):
    def run():
        model = without_dropout(small_cnn()).train()
        total = DEFENSES[name](**fields)(model, *batch, generator=torch.Generator().manual_seed(0)).total
        total.backward()
        return [total.detach(), *(p.grad for p in model.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize("name", WITHOUT)
def test_weight_zero_is_plain_training(name, batch):
    a, b = (without_dropout(small_cnn()).train() for _ in range(2))
    plain = CE(class_weights=(0.5, 2.0))(a, *batch)
    zero = DEFENSES[name](**WITHOUT[name], class_weights=(0.5, 2.0))(b, *batch)
    assert torch.equal(plain.total, zero.total)
    assert snapshot(a) == snapshot(b)


@every_case
def test_class_weights_are_a_weighted_mean(name, fields, batch):
    """Weights of (1, 1) change nothing; doubling all weights changes nothing."""
    model = without_dropout(small_cnn()).eval()
    fields = {key: value for key, value in fields.items() if key != "class_weights"}
    plain, ones, twos = (
        DEFENSES[name](**fields, class_weights=w)(
            copy.deepcopy(model), *batch, generator=torch.Generator().manual_seed(0)
        ).total
        for w in (None, (1.0, 1.0), (2.0, 2.0))
    )
    torch.testing.assert_close(ones, plain)
    torch.testing.assert_close(twos, plain)


OUT_OF_RANGE = [
    *[(name, field, value) for name in ("at", "llr", "trades", "rst", "mirst") for field, value in BALL.items()],
    *[(name, field, -1.0) for name, fields in WITHOUT.items() for field in fields],
]


@pytest.mark.parametrize(("name", "field", "value"), OUT_OF_RANGE)
def test_fields_out_of_range_get_a_sentence(name, field, value):
    with pytest.raises(MirstError, match=field):
        DEFENSES[name](**{field: value})


@pytest.mark.parametrize("name", [name for name in DEFENSES if name != "ce"])
def test_images_outside_the_pixel_range_get_a_sentence(name, model, batch):
    x, y = batch
    with pytest.raises(MirstError, match="must lie in"):
        DEFENSES[name]()(model, x * 255, y)


class CutOff(nn.Module):
    """Its first layer lets no gradient through to the images; its weights can be trained."""

    def __init__(self):
        super().__init__()
        self.body = small_cnn()

    def forward(self, x):
        return self.body((255 * x).round().detach() / 255)


@pytest.mark.parametrize(("name", "fields"), [case for case in CASES if case[0] not in CERTIFIED])
def test_models_without_a_gradient_to_the_images_are_trained(name, fields, batch):
    model = CutOff().train()
    DEFENSES[name](**fields)(model, *batch).total.backward()
    assert model.body[0].weight.grad.abs().sum() > 0
