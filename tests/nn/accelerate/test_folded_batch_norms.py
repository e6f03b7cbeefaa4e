import copy

import pytest
import torch
from torch import nn

from mirst.nn import MODELS, build_model, in_fast_layout, reference_mode
from mirst.nn.accelerate.folded_batch_norms import folded
from tests.helpers import small_cnn, snapshot


def norms(model):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


def warm(model, channels=1):
    """Batch norms with statistics and weights of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(3):
            model.train()(torch.rand(4, channels, 32, 32))
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.5, 0.5)
    return model.eval()


@pytest.mark.parametrize("drop_max", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_copy_answers_alike_without_batch_norms(name, drop_max):
    model = warm(build_model(name, 1, 3, drop_max)).double()
    before = snapshot(model)
    fast, x = folded(model), torch.rand(2, 1, 32, 32, dtype=torch.float64)
    assert norms(fast) == 0 < norms(model)
    torch.testing.assert_close(fast(x), model(x), rtol=1e-9, atol=1e-9)
    images = [x.clone().requires_grad_(True) for _ in range(2)]
    slopes = [torch.autograd.grad(net(z).sum(), z)[0] for net, z in zip((fast, model), images, strict=True)]
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-9)
    assert snapshot(model) == before


def test_the_copy_follows_the_weights_of_the_moment():
    model, x = small_cnn().eval(), torch.rand(2, 1, 16, 16)
    folded(model)
    with torch.no_grad():
        model[0].weight.mul_(2)
        model[1].running_mean.add_(0.3)
    torch.testing.assert_close(folded(model)(x), model(x))


class Shared(nn.Module):
    """One convolution feeds two batch norms, and one batch norm stands alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two, self.alone = (
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(1),
        )  # fmt: skip

    def forward(self, x):
        features = self.conv(self.alone(x))
        return (self.one(features) * self.two(features)).flatten(1)[:, :2]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)

    def forward(self, x):
        return self.norm(self.conv(self.norm(self.conv(x)))).flatten(1)[:, :2]


class Branching(nn.Module):
    """Cannot be traced."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))

    def forward(self, x):
        return (self.net(x) if x.mean() > 0 else x).flatten(1)[:, :2]


@pytest.mark.parametrize("kind", [Shared, Twice, Branching])
def test_what_cannot_be_folded_stays(kind):
    model, x = warm(kind()), torch.rand(2, 1, 16, 16)
    fast = folded(model)
    assert norms(fast) == norms(model)
    torch.testing.assert_close(fast(x), model(x))


def test_batch_norms_that_are_listened_to_or_train_stay():
    model, x = small_cnn().eval(), torch.rand(2, 1, 16, 16)
    heard = []
    handle = model[1].register_forward_hook(lambda *_: heard.append(1))
    assert norms(folded(model)) == 1
    folded(model)(x)
    assert heard == [1]
    handle.remove()
    assert norms(folded(model)) == 0
    model[1].train()
    assert norms(folded(model)) == 1
    assert norms(folded(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)).eval())) == 1


def test_a_model_that_cannot_be_copied_is_given_back():
    class Single(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("there is one of me")

    model = Single(2, 2)
    assert folded(model) is model
    with pytest.raises(TypeError):
        copy.deepcopy(model)


def test_plainly_the_model_itself_is_attacked():
    model = small_cnn().eval()
    with reference_mode():
        assert folded(model) is model
    assert folded(model) is not model


class ViewsWeight(nn.Module):
    """Its forward looks at a convolution's weight through a view, which fails on weights that lie channels last."""

    def __init__(self):
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        scale = self.conv.weight.view(4, -1).norm(dim=1).view(-1, 1, 1)
        return self.head(self.other(self.conv(x) / scale).mean((2, 3)))


def test_weights_that_another_layer_reads_keep_their_layout():
    model = ViewsWeight()
    with in_fast_layout(model):
        model(torch.rand(2, 3, 8, 8)).sum().backward()
        assert model.conv.weight.is_contiguous()
        assert model.other.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.other.weight.is_contiguous()
