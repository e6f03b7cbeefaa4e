"""RST and MIRST against a slow transcription of MIRST-DM's Eq. 1 to 3."""

import copy
import math

import pytest
import torch
from torch import nn

from mirst.defenses import MIRST, RST
from mirst.errors import MirstError
from tests.defenses.oracle import ascend, assert_same_loss_and_gradients, cross_entropy
from tests.helpers import asked, seeded, small_cnn


def slow_loss(model, x, y, eps, step, steps, alpha, betas):
    """Eq. 2, image by image; `betas` maps an iterate's number to its weight."""
    total = 0.0
    for image, label in zip(x, y, strict=True):
        sequence = ascend(lambda z, label=label: cross_entropy(model, z, label), image, image, eps, step, steps)
        adversarial = sum(beta * cross_entropy(model, sequence[number - 1], label) for number, beta in betas.items())
        total = total + cross_entropy(model, image, label) + alpha * adversarial
    return total / len(x)


def crafted(defense, model, x, y, generator=None):
    """The adversarial images that `defense` trains on: all but the first of its batch, which are the clean ones."""
    model = copy.deepcopy(model)
    with asked(model) as batches:
        defense(model, x, y, generator=generator)
    return batches[-1][len(x) :]


PAPER_BETAS = {10: 0.34, 9: 0.28, 8: 0.22, 7: 0.16}


@pytest.mark.parametrize("joint_batch", [True, False])
@pytest.mark.parametrize(
    ("defense", "fields", "betas"),
    [
        (RST, {}, {10: 1.0}),
        (RST, {"steps": 4, "alpha": 2.5}, {4: 1.0}),
        (MIRST, {}, PAPER_BETAS),
        (MIRST, {"instances": (2, 5), "weights": (0.3, 0.9), "alpha": 0.5}, {2: 0.3, 5: 0.9}),
    ],
)
def test_loss_and_gradients_equal_a_slow_transcription(defense, fields, betas, joint_batch, batch):
    x, y = batch[0].double(), batch[1]
    step = 0.003
    ours, theirs = (small_cnn().double().eval() for _ in range(2))
    total = defense(**fields, eps=0.02, step_size=step, joint_batch=joint_batch)(ours, x, y).total
    expected = slow_loss(theirs, x, y, 0.02, step, fields.get("steps", 10), fields.get("alpha", 1.0), betas)
    assert_same_loss_and_gradients(ours, total, theirs, expected)


def test_crafting_in_train_mode_uses_batch_statistics(batch):
    x, y = batch
    model = small_cnn()
    model[8] = nn.Identity()
    model.train()
    in_train, in_eval = (crafted(RST(craft_mode=mode), model, x, y) for mode in ("train", "eval"))
    assert not torch.equal(in_train, in_eval)
    model.eval()
    torch.testing.assert_close(crafted(RST(craft_mode="train"), model, x, y), in_eval)


def test_the_default_step_size_reaches_the_edge(model, batch):
    x, y = batch
    for eps in (5 / 255, 0.1):
        last = crafted(RST(eps=eps), model, x, y)
        assert math.isclose((last - x).abs().max().item(), eps, rel_tol=1e-4)


def test_a_random_start_is_drawn_inside_the_ball(model, batch):
    x, y = batch
    at_random = RST(eps=0.05, steps=1, step_size=1e-4, random_start=True)
    one, same, other = (crafted(at_random, model, x, y, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    moved = (one - x).abs()
    assert moved.max() <= 0.05 + 1e-6
    assert moved.mean() > 0.01


def test_only_as_many_steps_are_made_as_are_trained_on(model, batch):
    with asked(model) as calls:
        MIRST(instances=(2, 3), weights=(0.5, 0.5))(model, *batch)
    assert len(calls) == 3 + 1


def test_defaults_are_the_papers():
    assert (MIRST().alpha, RST().alpha) == (1.0, 1.0)
    assert math.isclose(sum(MIRST().weights), 1.0)
    assert MIRST().steps == RST().steps == 10


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"instances": (10, 9)}, "each instance needs one weight"),
        ({"instances": (), "weights": ()}, "each instance needs one weight"),
        ({"instances": (11, 9, 8, 7)}, "numbered from 1 to steps"),
        ({"instances": (0, 9, 8, 7)}, "numbered from 1 to steps"),
        ({"instances": (9, 9, 8, 7)}, "each iterate once"),
        ({"weights": (0.3, 0.3, 0.3, -0.1)}, "none may be negative"),
        ({"steps": 5}, "numbered from 1 to steps"),
    ],
)
def test_instances_that_make_no_sense_get_a_sentence(fields, words):
    with pytest.raises(MirstError, match=words):
        MIRST(**fields)
