import math

import pytest
import torch

from mirst.errors import MirstError
from mirst.training import SimCLR, nt_xent, ultrasound_view
from tests.helpers import small_cnn


def slow_nt_xent(z, temperature):
    """Eq. 4, pair by pair: for each view its partner against every other view."""

    def similarity(a, b):
        return (a * b).sum() / (a.norm() * b.norm())

    n, total = len(z) // 2, 0.0
    for i in range(2 * n):
        j = i + n if i < n else i - n
        above = torch.exp(similarity(z[i], z[j]) / temperature)
        below = sum(torch.exp(similarity(z[i], z[k]) / temperature) for k in range(2 * n) if k != i)
        total = total - torch.log(above / below)
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_the_loss_and_its_gradient_equal_a_slow_transcription(temperature):
    z = torch.randn(10, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = (z.clone().requires_grad_(True) for _ in range(2))
    ours, theirs = nt_xent(a, temperature), slow_nt_xent(b, temperature)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, leaf)[0] for loss, leaf in ((ours, a), (theirs, b))))


def test_equal_views_of_orthogonal_images_have_the_known_loss():
    z = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    expected = math.log(math.exp(2) + 6) - 2  # its partner at 1, six others at 0, temperature 1/2
    assert nt_xent(z, 0.5).item() == pytest.approx(expected)


def images(n=64):
    x = torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    x[:, :, :6] = 0  # a letterbox
    return x


def test_views_are_images_and_repeat_with_the_generator():
    x = images()
    a, b = (ultrasound_view(x, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == x.shape
    assert 0 <= a.min() <= a.max() <= 1
    assert not torch.equal(a, ultrasound_view(x, torch.Generator().manual_seed(2)))


def test_about_half_of_the_views_are_mirrored_and_none_stands_upside_down():
    ramp = torch.linspace(0.1, 0.9, 32)
    across = ramp.view(1, 1, 1, 32).repeat(300, 1, 32, 1)
    view = ultrasound_view(across, torch.Generator().manual_seed(0))
    mirrored = view[..., 4:14].mean((1, 2, 3)) > view[..., 18:28].mean((1, 2, 3))
    assert 0.4 < mirrored.float().mean() < 0.6
    view = ultrasound_view(across.transpose(2, 3).contiguous(), torch.Generator().manual_seed(0))
    assert (view[:, :, 4:14].mean((1, 2, 3)) < view[:, :, 18:28].mean((1, 2, 3))).all()


def test_gray_stays_gray_and_black_stays_black():
    x = images().repeat(1, 3, 1, 1)
    view = ultrasound_view(x, torch.Generator().manual_seed(0))
    assert torch.equal(view[:, 0], view[:, 1])
    assert torch.equal(ultrasound_view(torch.zeros(4, 1, 32, 32)), torch.zeros(4, 1, 32, 32))


def test_what_it_refuses(batch):
    with pytest.raises(MirstError, match="temperature is 0"):
        SimCLR(temperature=0)
    x, y = batch
    with pytest.raises(MirstError, match="at least two"):
        SimCLR()(small_cnn(), x[:1], y[:1])
    with pytest.raises(MirstError, match="must lie in"):
        SimCLR()(small_cnn(), x * 255, y)
