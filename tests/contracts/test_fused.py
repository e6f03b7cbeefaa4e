"""A model that takes a box, or an ensemble of them, holds the contracts of attacks and defenses."""

from dataclasses import replace

import pytest
import torch

from mirst.attacks import FAB, PGD, Transfer
from mirst.defenses import DEFENSES
from mirst.nn import Ensemble, box_features, replace_first_max_pool
from mirst.nn.box_fusion import fusions
from tests.contracts.test_attacks import ALL
from tests.contracts.test_defenses import CASES
from tests.helpers import fused, on_the_fence, seeded, snapshot, with_boxes


@pytest.fixture
def boxed(batch):
    return with_boxes(*batch)


def single(drop_max=False):
    return replace_first_max_pool(fused()) if drop_max else fused()


def both(drop_max=False):
    members = [fused(seed=seed) for seed in (0, 1)]
    return Ensemble([replace_first_max_pool(member) for member in members] if drop_max else members)


one_or_both = pytest.mark.parametrize("make", [single, both])


def small_steps_decide(model, x):
    """`model` with a box that says little, and pixels whose logits are near equal."""
    for fusion in fusions(model):
        on_the_fence(fusion.pixels, x[:, :-1])
        fusion.box_weight.mul_(0.1)
        fusion.box_bias.zero_()
        fusion.pixel_var.fill_(1e-4)
    return model


@one_or_both
@pytest.mark.parametrize("label", ALL)
def test_an_attack_moves_pixels_within_eps_and_no_box(label, make, boxed):
    x, y = boxed
    attack = ALL[label]
    if isinstance(attack, Transfer):
        attack = replace(attack, source_model=fused(seed=1).eval())
    model = small_steps_decide(make(drop_max=True), x).train()
    before, kept = snapshot(model), x.clone()
    attacked = attack(model, x, y, generator=seeded(3))
    assert snapshot(model) == before
    assert torch.equal(x, kept)
    assert not attacked.requires_grad
    assert (attacked - x).abs().max() <= attack.eps + 1e-7
    assert torch.equal(attacked, attack(model, x, y, generator=seeded(3)))
    (features, known), (moved, still) = (box_features(images[:, -1:]) for images in (x, attacked))
    assert torch.equal(features, moved)
    assert torch.equal(known, still)
    if attack.eps and not isinstance(attack, FAB):  # which returns the image where it fails
        assert (attacked[:, :-1] != x[:, :-1]).any()


@one_or_both
def test_a_gradient_attack_leaves_the_plane_as_it_is(make, boxed):
    x, y = boxed
    attacked = PGD(eps=0.1, steps=3)(make().eval(), x, y)
    assert torch.equal(attacked[:, -1], x[:, -1])


@one_or_both
@pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda v: v if isinstance(v, str) else ",".join(v))
def test_a_defense_trains_the_pixels_and_crafts_without_a_trace(name, fields, make, boxed):
    x, y = boxed
    model = make().eval()
    before = snapshot(model)
    DEFENSES[name](**fields)(model, x, y)
    assert snapshot(model) == before

    model = make().train()
    total = DEFENSES[name](**fields)(model, x, y).total
    assert total.isfinite()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(fusion.pixel_var != 1 for fusion in fusions(model))
