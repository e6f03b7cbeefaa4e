from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mirst.defenses import TRADES
from tests.defenses.oracle import ascend, assert_same_loss_and_gradients, cross_entropy, log_softmax
from tests.helpers import asked, small_cnn


def kl(model, image, other, *, constant=False):
    p, q = (log_softmax(model(z[None])[0]) for z in (image, other))
    if constant:
        p = p.detach()
    return (torch.exp(p) * (p - q)).sum()


@pytest.mark.parametrize("joint_batch", [True, False])
@pytest.mark.parametrize("weight", [1.0, 6.0])
def test_loss_and_gradients_equal_a_slow_transcription(weight, joint_batch, batch):
    x, y = batch[0].double(), batch[1]
    eps, step, steps = 0.05, 0.01, 6
    ours, theirs = (small_cnn().double().eval() for _ in range(2))
    defense = TRADES(eps=eps, step_size=step, steps=steps, weight=weight, joint_batch=joint_batch)
    total = defense(ours, x, y, generator=torch.Generator().manual_seed(7)).total
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7), dtype=x.dtype)
    starts = x + 0.001 * noise
    expected = 0.0
    for image, label, start in zip(x, y, starts, strict=True):
        *_, farthest = ascend(
            lambda z, image=image: kl(theirs, image, z, constant=True), image, start, eps, step, steps
        )
        expected = expected + cross_entropy(theirs, image, label) + weight * kl(theirs, image, farthest)
    assert_same_loss_and_gradients(ours, total, theirs, expected / len(x))


def official(model, x, y, noise, *, eps, step, steps, beta):
    """`trades_loss` of github.com/yaodongyu/TRADES, transcribed, with its noise handed in."""
    kl_sum = torch.nn.KLDivLoss(reduction="sum")
    model.eval()
    x_adv = x.detach() + 0.001 * noise
    for _ in range(steps):
        x_adv.requires_grad_()
        with torch.enable_grad():
            loss = kl_sum(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x), dim=1))
        grad = torch.autograd.grad(loss, [x_adv])[0]
        x_adv = x_adv.detach() + step * torch.sign(grad.detach())
        x_adv = torch.min(torch.max(x_adv, x - eps), x + eps)
        x_adv = torch.clamp(x_adv, 0.0, 1.0)
    model.train()
    natural = F.cross_entropy(model(x), y)
    robust = kl_sum(F.log_softmax(model(x_adv), dim=1), F.softmax(model(x), dim=1)) / len(x)
    return natural + beta * robust


def net_with_batch_norm():
    """In train mode, without dropout, whose draws differ from call to call."""
    model = small_cnn().double()
    model[8] = torch.nn.Identity()
    return model.train()


@pytest.mark.parametrize("beta", [1.0, 6.0])
@pytest.mark.parametrize("seed", range(3))
def test_separate_batches_equal_the_authors_code_in_train_mode(beta, seed, batch):
    x, y = batch[0].double(), batch[1]  # two images hold pixels of 0 and 1, where a clamped start would differ
    defense = TRADES(eps=0.05, step_size=0.01, steps=6, weight=beta, joint_batch=False)
    ours, theirs = net_with_batch_norm(), net_with_batch_norm()
    total = defense(ours, x, y, generator=torch.Generator().manual_seed(seed)).total
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    expected = official(theirs, x, y, noise, eps=0.05, step=0.01, steps=6, beta=beta)
    assert_same_loss_and_gradients(ours, total, theirs, expected)
    joint = replace(defense, joint_batch=True)
    apart = joint(net_with_batch_norm(), x, y, generator=torch.Generator().manual_seed(seed)).total
    assert abs(apart - expected) > 1e-6


def test_the_search_ends_inside_the_ball_and_the_pixel_range(batch):
    x, y = batch
    model = small_cnn().eval()
    defense = TRADES(eps=0.05, steps=1)
    with asked(model) as images:
        defense(model, x, y, generator=torch.Generator().manual_seed(0))
    attacked = images[-1][len(x) :]
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert (attacked - x).abs().max() <= 0.05 + 1e-6
