"""Programs compute what their models compute, and what has no rule is named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mirst.bounds import margin_bounds, propagate, trace
from mirst.bounds.boxes import Box
from mirst.bounds.certify import Certifier
from mirst.bounds.interval import run
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
    "flat_counted_back": lambda x: x.flatten(-4).view(2, -1),
    "first_image": lambda x: x.flatten(1) + x.flatten(1)[..., :1, :],
    "number_of_images": lambda x: x.flatten(1) * x.shape[0],
    "two_batches": lambda x: (x.flatten(1) + x.view(-1, 1, 36)).mean(1),
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


class HalfPrecision(nn.Module):
    """torch.fx does not see the mode."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 2)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.head(x.flatten(1))


def test_a_model_that_torch_fx_misreads_is_refused():
    with pytest.raises(MirstError, match="do not contain its own logits"):
        margin_bounds(HalfPrecision(), images(2), torch.tensor([0, 1]), 0.01)


class Steps(nn.Module):
    """A forward of three linear layers."""

    def __init__(self, step):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.step = step

    def forward(self, x):
        return self.step(self, x)


def flat_changed_through_its_base(net, x):
    x = x - 0.5
    flat = x.view(-1, 36)
    x.relu_()
    return net.head(net.a(flat))


def base_changed_through_a_view(net, x):
    h = net.a(x.flatten(1))
    F.relu_(h[:, :4])
    return net.head(h)


def changed_after_dropout_in_eval(net, x):
    h = net.a(x.flatten(1))
    kept = F.dropout(h.flatten(1), training=False)
    h -= 3
    return net.head(kept)


def returned_view(net, x):
    logits = net.head(net.a(x.flatten(1)))
    view = logits.view(-1, 2)
    logits *= -1
    return view


CHANGED = [flat_changed_through_its_base, base_changed_through_a_view, changed_after_dropout_in_eval, returned_view]


@pytest.mark.parametrize("step", CHANGED)
def test_a_value_that_was_changed_under_another_name_is_refused(step):
    with pytest.raises(MirstError, match="in place has changed"):
        trace(Steps(step))


def kept_by_a_clone(net, x):
    h = net.a(x.flatten(1))
    before = h.clone()
    h.relu_()
    return net.head(h - before)


def in_place_by_position(net, x):
    h = net.a(x.flatten(1))
    F.relu(h, True)
    return net.head(F.leaky_relu(net.b(h), 0.2, True) + h)


def more_than_it_returns(net, x):
    h = net.a(x.flatten(1))
    logits = net.head(h)
    net.head(net.b(h)).relu()
    return logits


def aliases_of_one_value(net, x):
    h = net.a(x.flatten(1))
    same = F.dropout(h, training=False)
    same += 1
    return net.head(h)


def numbers_of_python(net, x):
    return net.head(((net.a(x.flatten(1)) - 0.1) / 0.3 * 0.7).clamp(-0.1, 0.3))


KEPT = [kept_by_a_clone, in_place_by_position, more_than_it_returns, aliases_of_one_value, numbers_of_python]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("step", KEPT)
def test_what_is_computed_in_place_or_beside_the_logits_is_followed(step, dtype):
    torch.manual_seed(0)
    model, x = Steps(step).to(dtype).eval(), images(4).to(dtype)
    logits = model(x)
    low, high = sound_ends(model, x)
    assert ((low <= logits) & (logits <= high)).all()
    assert (high - low).max() < (1e-4 if dtype == torch.float32 else 1e-12)


def sound_ends(model, x):
    """Bounds of each logit at the images themselves, with the slack for rounding: of the margin over a logit 0."""
    tolerances = Certifier(model, x, "interval")
    record = run(tolerances.program, Box.between(x.double(), x.double()), tolerances.rounding)
    return record.box(-1).parts()


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


def hooked_as_a_whole():
    model = small_cnn()
    model.register_forward_hook(lambda layer, given, logits: logits.clamp(-3, 3))
    return model


def with_forward(model):
    model.forward = lambda x: nn.Sequential.forward(model, x).clamp(-3, 3)
    return model


REFUSED = {
    r"LeakyReLU\).*other than increasing": nn.LeakyReLU(-0.1),
    r"LeakyReLU\).*increasing": nn.LeakyReLU(1.5),
    r"ELU\).*increasing": nn.ELU(-1.0),
    r"CELU\).*increasing": nn.CELU(-1.0),
    r"GELU\)": nn.GELU(),
    r"SiLU\)": nn.SiLU(),
    r"Mish\)": nn.Mish(),
    r"Softplus\)": nn.Softplus(),
    r"PReLU\)": nn.PReLU(),
    r"RReLU\)": nn.RReLU(),
    r"Hardswish\)": nn.Hardswish(),
    r"InstanceNorm2d\)": nn.InstanceNorm2d(1),
}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Gelus, r"the layer stem\.1 \(GELU\) has no bounds"),
        (lambda: nn.Sequential(nn.GroupNorm(1, 1), nn.Flatten()), r"the layer 0 \(GroupNorm\) has no bounds"),
        *[
            (lambda layer=layer: nn.Sequential(layer, nn.Flatten()), rf"layer 0 \({said}")
            for said, layer in REFUSED.items()
        ],
        (Branches, r"cannot follow the model \(Branches\)"),
        (hooked, r"layer 2 \(ReLU\).*hook"),
        (hooked_as_a_whole, r"model \(Sequential\).*hook"),
        (lambda: with_forward(small_cnn()), r"model \(Sequential\).*forward of its own"),
        (lambda: Steps(lambda net, x: net.head(net.a(x.flatten(1))) + torch.tensor([0.0, 1.0])), "as a buffer"),
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
