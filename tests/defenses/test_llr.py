import pytest
import torch

from mirst.defenses import LLR, llr_penalty
from tests.defenses.oracle import (
    Smooth,
    ascend,
    assert_same_loss_and_gradients,
    cross_entropy,
    input_gradient,
    of_parameters,
)
from tests.helpers import small_cnn


def uniform_starts(x, eps, seed):
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    return (x + eps * (2 * noise - 1)).clamp(0, 1)


@pytest.mark.parametrize("joint_batch", [True, False])
@pytest.mark.parametrize(("lam", "mu"), [(3.0, 4.0), (1.0, 0.0), (0.0, 2.0)])
def test_loss_and_gradients_equal_a_slow_transcription(lam, mu, joint_batch, batch):
    x, y = batch[0].double(), batch[1]
    eps, step, steps = 0.05, 0.01, 6
    ours, theirs = (small_cnn().double().eval() for _ in range(2))
    defense = LLR(
        eps=eps, step_size=step, steps=steps, linearity_weight=lam, gradient_weight=mu, joint_batch=joint_batch
    )
    total = defense(ours, x, y, generator=torch.Generator().manual_seed(7)).total
    expected = 0.0
    for image, label, start in zip(x, y, uniform_starts(x, eps, 7), strict=True):
        slope = input_gradient(theirs, image, label)

        def gap(z, image=image, label=label, slope=slope):
            here, there = cross_entropy(theirs, image, label), cross_entropy(theirs, z, label)
            return torch.abs(there - here - ((z - image) * slope).sum())

        *_, farthest = ascend(gap, image, start, eps, step, steps)
        trained = input_gradient(theirs, image, label, keep=True)
        straight = ((farthest - image) * trained).sum()
        here, there = cross_entropy(theirs, image, label), cross_entropy(theirs, farthest, label)
        expected = expected + here + lam * torch.abs(there - here - straight) + mu * torch.abs(straight)
    assert_same_loss_and_gradients(ours, total, theirs, expected / len(x))


def test_gradcheck_at_a_fixed_delta():
    x, y = torch.rand(2, 1, 6, 6, dtype=torch.float64), torch.tensor([2, 0])
    delta = 0.1 * torch.randn(x.shape, dtype=torch.float64)
    call, parameters = of_parameters(Smooth(), lambda model: llr_penalty(model, x, y, delta))
    assert torch.autograd.gradcheck(call, parameters)


def test_a_linear_loss_has_no_gap():
    """Logits (w.x, 0) far from zero make the cross-entropy of the losing class linear in the pixels."""
    w = torch.randn(16 * 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).abs()

    class Steep(torch.nn.Module):
        def forward(self, x):
            return torch.stack([1000 * (x.flatten(1) @ w), torch.zeros(len(x), dtype=x.dtype)], 1)

    x = torch.full((2, 1, 16, 16), 0.5, dtype=torch.float64)
    delta = torch.full_like(x, 0.01)
    gap, slope = llr_penalty(Steep(), x, torch.tensor([1, 1]), delta)
    assert gap.item() == pytest.approx(0.0, abs=1e-8)
    assert slope.item() == pytest.approx(1000 * 0.01 * w.sum().item(), rel=1e-12)
