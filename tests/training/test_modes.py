"""Layers that the user froze stay frozen, under every defense; a model in eval mode is trained all the same."""

import pytest
import torch
from torch import nn

from mirst.defenses import CE, DEFENSES
from mirst.errors import MirstError
from mirst.training import Training, fit
from tests.contracts.test_defenses import CERTIFIED
from tests.helpers import small_cnn

QUICK = Training(epochs=2)
STEPS = {name: {"steps": 2} for name in ("at", "llr", "trades", "rst", "sabr", "mtlibp")} | {
    "mirst": {"steps": 2, "instances": (1, 2), "weights": (0.5, 0.5)}
}
SPLIT = [{"craft_mode": "train", "joint_batch": False}, {"craft_mode": "eval", "joint_batch": True}]
DEFENSE_CASES = [
    (name, fields) for name in DEFENSES for fields in (SPLIT if name in ("rst", "mirst", "llr", "trades") else [{}])
]


def modes(model):
    return [layer.training for layer in model.modules()]


def statistics(norm):
    return [buffer.clone() for buffer in norm.buffers()]


def frozen_norm(model):
    model[1].eval().requires_grad_(False)
    return model


@pytest.mark.parametrize(("name", "fields"), DEFENSE_CASES)
def test_a_frozen_batch_norm_stays_frozen(name, fields, batch):
    model = frozen_norm(small_cnn().train())
    before, found = [p.clone() for p in model.parameters()], statistics(model[1])
    defense = DEFENSES[name](**STEPS.get(name, {}), **fields)
    seen = []
    if name not in CERTIFIED:  # which refuse hooks
        model[1].register_forward_hook(lambda norm, *_: seen.append(norm.training))
    fit(model, [batch], defense, val=[batch], settings=QUICK)
    assert not any(seen)
    assert all(torch.equal(a, b) for a, b in zip(found, statistics(model[1]), strict=True))
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved[2:4] == [False, False]  # scale and shift of the batch norm
    assert all(moved[:2] + moved[4:])


@pytest.mark.parametrize("layers", [(), (1,), (8,), (1, 8), (0, 4, 9)])
def test_every_layer_is_trained_in_its_own_mode_and_left_in_it(layers, batch):
    model = small_cnn().train()
    for layer in layers:
        model[layer].eval()
    before, seen = modes(model), []
    model.register_forward_pre_hook(lambda *_: seen.append(modes(model)) if torch.is_grad_enabled() else None)
    fit(model, [batch], CE(), settings=QUICK)
    assert modes(model) == before
    assert [found for found in seen if found[0]] == [before] * (1 + QUICK.epochs)  # one look before


def test_a_model_in_eval_mode_is_trained_in_train_mode_and_left_in_eval_mode(batch):
    model, seen = small_cnn().eval(), []
    model[1].register_forward_hook(lambda norm, *_: seen.append(norm.training))
    found = statistics(model[1])
    fit(model, [batch], CE(), settings=QUICK)
    assert sum(seen) == 1 + QUICK.epochs
    assert not any(modes(model))
    assert not torch.equal(found[0], model[1].running_mean)


def test_modes_are_restored_after_an_error(batch):
    x, y = batch
    model = frozen_norm(small_cnn().train())
    before = modes(model)
    with pytest.raises(MirstError):
        fit(model, [batch, (x * 255, y)], CE(), settings=QUICK)
    assert modes(model) == before


def test_a_frozen_batch_norm_trains_on_single_images(batch):
    x, y = batch
    data = [(x[:5], y[:5]), (x[5:], y[5:])]
    fit(frozen_norm(small_cnn().train()), data, CE(), settings=QUICK)
    with pytest.raises(MirstError, match="training batch 2 contains a single image"):
        fit(frozen_norm(small_cnn()).eval(), data, CE(), settings=QUICK)


def test_a_frozen_backbone_under_a_new_head_trains_the_head_alone(batch):
    """As of a pretrained model in eval mode inside a new one."""
    backbone = small_cnn().eval().requires_grad_(False)
    model = nn.Sequential(backbone, nn.Linear(2, 2))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    head = model[1].weight.clone()
    fit(model, [batch], CE(), settings=QUICK)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not torch.equal(head, model[1].weight)
