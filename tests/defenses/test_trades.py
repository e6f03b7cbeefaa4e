import pytest
import torch

from mirst.defenses import TRADES
from tests.defenses.oracle import ascend, assert_same_loss_and_gradients, cross_entropy, log_softmax
from tests.helpers import small_cnn


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
    starts = (x + 0.001 * noise).clamp(0, 1)
    expected = 0.0
    for image, label, start in zip(x, y, starts, strict=True):
        *_, farthest = ascend(
            lambda z, image=image: kl(theirs, image, z, constant=True), image, start, eps, step, steps
        )
        expected = expected + cross_entropy(theirs, image, label) + weight * kl(theirs, image, farthest)
    assert_same_loss_and_gradients(ours, total, theirs, expected / len(x))
