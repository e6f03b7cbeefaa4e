"""Transfer: the images are those that the attack makes on the source model."""

import pytest
import torch

from mirst.attacks import APGD, Transfer
from tests.helpers import asked, seeded, small_cnn, snapshot

ATTACK = APGD(eps=0.1, steps=5)


@pytest.fixture
def source():
    source = small_cnn(seed=1).train()
    source[1].eval()
    source[4].weight.requires_grad_(False)
    return source


def test_it_is_the_attack_on_the_source(source, model, batch):
    with asked(model) as questions:
        attacked = Transfer(source_model=source, attack=ATTACK)(model, *batch, generator=seeded())
    assert torch.equal(attacked, ATTACK(source, *batch, generator=seeded()))
    assert not torch.equal(attacked, ATTACK(model, *batch, generator=seeded()))
    assert not questions


def test_from_a_model_to_itself_nothing_changes(model, batch):
    attacked = Transfer(source_model=model, attack=ATTACK)(model, *batch, generator=seeded())
    assert torch.equal(attacked, ATTACK(model, *batch, generator=seeded()))


def test_the_source_is_left_as_found(source, model, batch):
    before = snapshot(source)
    Transfer(source_model=source, attack=ATTACK)(model, *batch)
    assert snapshot(source) == before


def test_its_radius_is_the_attacks(source):
    assert Transfer(source_model=source, attack=ATTACK).eps == 0.1
