"""Programs compute what their models compute, and what has no rule is named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mirst.bounds import margin_bounds, propagate, trace
from mirst.errors import MirstError
from mirst.nn import drop_max2d
from tests.bounds.helpers import images
from tests.contracts.models import Doubled, Net, conv
from tests.helpers import ensemble, fused_ensemble, small_cnn, snapshot, with_boxes


class Functional(nn.Module):
    """Calls of functions and methods, in place and not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.gain = nn.Parameter(torch.rand(4, 1, 1) - 0.5)
        self.register_buffer("mean", torch.tensor([0.3]))
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.a((x - self.mean[:, None, None]) / 0.2)
        y = F.relu(self.b(x) * self.gain.exp())
        y += 1 - x
        z = torch.cat([F.leaky_relu(y, 0.1), torch.tanh(x), -x.relu()], 1)
        z = F.max_pool2d(F.pad(z, (1, 1, 1, 1)), 2) + drop_max2d(z, 3, 2, 1)[:, :, :4, :4].mean((2, 3), keepdim=True)
        z = F.avg_pool2d(z, 2, ceil_mode=True, count_include_pad=False)
        return self.head(F.adaptive_avg_pool2d(z, 1).view(x.size(0), -1).clamp(-3, 3))


class Shaped(nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step, self.head = step, nn.LazyLinear(2)

    def forward(self, x):
        return self.head(self.step(x))


KEEPS_IMAGES = {
    "shape": lambda x: x.reshape(x.shape[0], -1),
    "minus_one": lambda x: x.view(-1, 36),
    "flatten": lambda x: torch.flatten(x, 1),
    "mean": lambda x: x.mean(3).flatten(1),
    "index": lambda x: x[:, 0, 2:4].flatten(1),
}
MIXES_IMAGES = {
    "batch_mean": lambda x: (x - x.mean(0)).flatten(1),
    "batch_mean_counted_back": lambda x: (x - x.mean(-4)).flatten(1),
    "reversed": lambda x: x[[1, 0]].flatten(1),
    "height": lambda x: x.reshape(x.shape[0], x.shape[2] * 6),
    "product": lambda x: (x * x).flatten(1),
    "quotient": lambda x: (1 / x).flatten(1),
    "maximum": lambda x: torch.maximum(x, 1 - x).flatten(1),
    "noise": lambda x: F.dropout(x.flatten(1), 0.5),
}


@pytest.mark.parametrize("step", KEEPS_IMAGES)
def test_reshapes_that_keep_images_apart_have_bounds(step):
    model, x = Shaped(KEEPS_IMAGES[step]).eval(), images(3)
    wanted = model(x)
    torch.testing.assert_close(trace(model).at(x), wanted)


@pytest.mark.parametrize("step", MIXES_IMAGES)
def test_what_mixes_images_or_multiplies_values_is_refused(step):
    model, x = Shaped(MIXES_IMAGES[step]).eval(), images(2)
    model(x)
    with pytest.raises(MirstError) as error:
        margin_bounds(model, x, torch.tensor([0, 1]), 0.01)
    assert "\n" not in str(error.value)


def test_functions_and_methods_have_bounds():
    torch.manual_seed(0)
    model, x = Functional().eval(), images(3, size=8)
    program = trace(model)
    torch.testing.assert_close(program.at(x), model(x))
    low, high = propagate(program, x - 0.05, x + 0.05)
    for seed in range(20):
        step = images(3, size=8, seed=seed) * 2 - 1
        logits = model(x + 0.05 * step.sign())
        assert ((low <= logits + 1e-5) & (logits <= high + 1e-5)).all()


@pytest.mark.parametrize("make", [small_cnn, ensemble, fused_ensemble, Net])
def test_tracing_leaves_the_model_as_it_is(make):
    model, x = make().eval(), images(4, size=16)
    x = with_boxes(x, x)[0] if make is fused_ensemble else x
    before = snapshot(model)
    torch.testing.assert_close(trace(model).at(x), model(x))
    assert snapshot(model) == before


def test_a_program_follows_the_weights():
    model, x = small_cnn().eval(), images(2, size=16)
    program, before = trace(model), model(x)
    with torch.no_grad():
        model[0].weight.mul_(3)
    assert not torch.allclose(model(x), before)
    torch.testing.assert_close(program.at(x), model(x))


class Stateful(nn.Module):
    """A view of a tensor that is then changed in place: torch.fx does not see that the view changes too."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 2)

    def forward(self, x):
        x = x - 0.5
        flat = x.flatten(1)
        x.relu_()
        return self.head(flat)


def test_a_model_that_torch_fx_misreads_is_refused():
    with pytest.raises(MirstError, match="do not contain its own logits"):
        margin_bounds(Stateful(), images(2), torch.tensor([0, 1]), 0.01)


class Branches(nn.Module):
    def forward(self, x):
        return x.flatten(1) if x.mean() > 0 else -x.flatten(1)


class Gelus(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU())

    def forward(self, x):
        return self.stem(x).flatten(1)


def hooked():
    model = small_cnn()
    model[2].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Gelus, r"the layer stem\.1 \(GELU\) has no bounds"),
        (lambda: nn.Sequential(nn.GroupNorm(1, 1), nn.Flatten()), r"the layer 0 \(GroupNorm\) has no bounds"),
        (lambda: nn.Sequential(nn.LeakyReLU(-0.1), nn.Flatten()), r"layer 0 \(LeakyReLU\).*other than increasing"),
        (Branches, r"cannot follow the model \(Branches\)"),
        (hooked, r"layer 2 \(ReLU\).*hook"),
        (lambda: nn.Sequential(nn.Flatten(0), nn.Linear(1, 2)), r"joins the images"),
    ],
)
def test_what_has_no_bounds_is_named_in_a_sentence(make, said):
    with pytest.raises(MirstError, match=said) as error:
        trace(make())
    assert "\n" not in str(error.value)


def test_a_subclass_of_a_layer_is_bounded_by_its_own_forward():
    model, x = Net(conv(Doubled)).eval(), images(2, size=12)
    torch.testing.assert_close(trace(model).at(x), model(x))
