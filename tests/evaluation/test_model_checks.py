import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mirst.nn
from mirst.data import make_phantom
from mirst.errors import MirstError
from mirst.evaluation import ModelWarning, distances, evaluate
from mirst.evaluation.model_checks import inspect_model, require_classes
from mirst.nn import Normalized, build_model
from tests.helpers import small_cnn, snapshot


def stripes(count, channels=1, classes=2, seed=0):
    """Images in [0, 1] with no, weak or strong stripes: contrast tells them apart. The last class is the rarest."""
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.permutation(np.arange(count) % (classes + 1) % classes))
    wave = torch.sin(1.5 * torch.arange(16.0)).view(1, 1, -1)
    noise = torch.from_numpy(rng.normal(size=(count, 16, 16))).float()
    gray = (0.45 + 0.12 * y.view(-1, 1, 1) * wave + 0.08 * noise).clamp(0, 1)[:, None]
    return gray.repeat(1, channels, 1, 1), y


def net(channels=1, classes=2):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, classes),
    )


def train(model, scale, x, y, steps=60):
    """Steps of Adam on `scale(x)`."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(scale(x)), y).backward()
        optimizer.step()
    return model.eval()


def trained(scale, channels=1, classes=2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return train(net(channels, classes), scale, *stripes(192, channels, classes, seed=1))


def imagenet(x):
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if x.shape[1] == 3 else ([0.449], [0.226])
    return (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


@pytest.fixture(scope="module")
def right():
    return Normalized(trained(imagenet), (0.449,), (0.226,)).eval()


class Then(nn.Module):
    """A model whose outputs go through a function."""

    def __init__(self, model, function):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, x):
        return self.function(self.model(x))


def test_a_right_model_has_no_finding(right):
    x, y = stripes(96)
    assert (right(x).argmax(1) == y).float().mean() > 0.9
    assert inspect_model(right, x, y) == []
    assert inspect_model(Then(right, lambda z: z.log_softmax(1)), x, y) == []
    assert inspect_model(Then(right, lambda z: (30 * z).log_softmax(1)), x, y) == []


def test_a_right_model_of_our_own_on_phantoms_has_no_finding():
    rng = np.random.default_rng(0)
    y = torch.arange(96) % 2
    pixels = torch.from_numpy(np.stack([make_phantom(bool(label), rng) for label in y]))
    x = F.interpolate(pixels[:, None].float() / 255, size=32, mode="area")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = train(build_model("resnet_tiny", 1, 2), lambda x: x, x, y, steps=25)
    assert (model(x).argmax(1) == y).float().mean() > 0.8
    assert inspect_model(model, x, y) == []


@pytest.mark.parametrize("seed", range(12))
def test_an_untrained_model_has_no_finding(seed):
    x, y = stripes(96)
    assert inspect_model(small_cnn(seed=seed).eval(), x, y) == []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        assert inspect_model(net().eval(), x, y) == []


@pytest.mark.parametrize(
    ("scale", "channels", "name", "mend"),
    [
        (lambda x: 255 * x, 1, "255 * x", "mirst.nn.Normalized(model, (0.0,), (1 / 255,))"),
        (lambda x: 255 * x, 3, "255 * x", "mirst.nn.Normalized(model, (0.0,), (1 / 255,))"),
        (imagenet, 1, "x normalised with ImageNet's", "mirst.nn.Normalized(model, (0.449,), (0.226,))"),
        (imagenet, 3, "ImageNet's", "mirst.nn.Normalized(model, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"),
    ],
)
def test_a_missing_normalisation_is_named_and_its_mend_works(scale, channels, name, mend):
    model, (x, y) = trained(scale, channels), stripes(96, channels)
    [finding] = inspect_model(model, x, y)
    assert name in finding
    assert mend in finding
    mended = eval(mend, {"mirst": mirst, "model": model})
    assert inspect_model(mended.eval(), x, y) == []


def standardise(x):
    return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


def test_images_standardised_one_by_one_are_named():
    [finding] = inspect_model(trained(standardise), *stripes(96))
    assert "images standardised one by one (balanced accuracy 1.00)" in finding
    assert "a module that subtracts each image's own mean and divides by its deviation" in finding


def test_another_scaling_is_named_for_more_than_two_classes():
    x, y = stripes(96, classes=3)
    [finding] = inspect_model(trained(lambda x: 255 * x, classes=3), x, y)
    assert "it is clearly more accurate on 255 * x" in finding


def test_a_gain_that_chance_explains_is_no_finding():
    x, y = stripes(96)
    model = trained(lambda x: 255 * x)
    few = torch.cat([(y == k).nonzero()[:4, 0] for k in (0, 1)])
    assert inspect_model(model, x[few], y[few]) == []
    alike = y == 0
    assert inspect_model(model, x[alike], 1 - y[alike]) == []


def test_a_model_that_overflows_on_other_ranges_is_right(right):
    assert (
        inspect_model(Then(nn.Identity(), lambda x: right(x) / (x.amax((1, 2, 3)) < 1.5)[:, None]), *stripes(96)) == []
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_labels_may_be_of_any_integer_type(dtype):
    x, y = stripes(96)
    assert inspect_model(trained(lambda x: 255 * x), x, y.to(dtype))


def test_swapped_classes_are_not_taken_for_a_scaling(right):
    x, y = stripes(96)
    assert inspect_model(right, x, 1 - y) == []


def test_a_model_that_refuses_other_ranges_is_right(right):
    def only_pixels(x):
        if x.min() < 0 or x.max() > 1:
            raise ValueError("not in [0, 1]")
        return right(x)

    assert inspect_model(Then(nn.Identity(), only_pixels), *stripes(96)) == []


def test_softmax_is_named(right):
    x, y = stripes(96)
    [finding] = inspect_model(Then(right, lambda z: z.softmax(1)), x, y)
    assert "its outputs are probabilities, saturated on" in finding
    assert finding.endswith("return the logits before the softmax")
    [finding] = inspect_model(Then(right, lambda z: (1000 * z).softmax(1).clamp(1e-4, 1 - 1e-4)), x, y)
    assert "saturated on 96 of 96 images" in finding


@pytest.mark.parametrize("clamp", [lambda p: p.clamp(min=1e-7), lambda p: p + 1e-7])
def test_the_logarithm_of_clamped_probabilities_is_named(right, clamp):
    model = Then(right, lambda z: clamp((10 * z).softmax(1)).log())
    [finding] = inspect_model(model, *stripes(96))
    assert "logarithms of clamped probabilities, at a minimum of -16.12 on" in finding


def test_softmax_and_a_missing_normalisation_are_both_named():
    model = Then(trained(lambda x: 255 * x), lambda z: z.softmax(1))
    softmax, scaling = inspect_model(model, *stripes(96))
    assert "probabilities" in softmax
    assert "255 * x" in scaling


def test_layers_left_in_train_mode_are_named(right):
    x, y = stripes(96)
    [finding] = inspect_model(small_cnn(), x, y)
    assert "in train mode (layers: 1 batch norm, 1 dropout), although it is evaluated in eval mode" in finding
    assert finding.endswith("call .eval() in its factory")
    partly = small_cnn().eval()
    partly[8].train()
    [finding] = inspect_model(partly, x, y)
    assert "(layers: 1 dropout)" in finding
    alike = nn.Sequential(right, nn.Dropout(0.0))
    assert alike.training
    assert inspect_model(alike, x, y) == []


def test_stochastic_depth_counts_as_a_layer_of_train_mode(right):
    DropPath = type("DropPath", (nn.Identity,), {})
    [finding] = inspect_model(nn.Sequential(DropPath(), right), *stripes(12))
    assert "1 stochastic depth" in finding


def test_outputs_that_are_not_finite_are_named(right):
    x, y = stripes(96)
    [finding] = inspect_model(Then(standardise_first(right), lambda z: z), x, y)
    assert "its outputs are not finite on plain black, plain white or noise; look for a division" in finding
    x[:3] = 0.5
    [finding] = inspect_model(standardise_first(right), x, y)
    assert "its outputs are not finite on 3 of 96 images" in finding


def standardise_first(model):
    return Then(nn.Identity(), lambda x: model(0.226 * standardise(x) + 0.449))


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (lambda z: (z, z), "the model returns a tuple; wrap it so that it returns the (N, K) logits alone"),
        (lambda z: {"logits": z, "aux": z}, "the model returns a dict with logits, aux; wrap it"),
        (lambda z: None, "the model returns None; wrap it"),
        (
            lambda z: z[:, :1],
            "one number per image, (12, 1); wrap it so that it returns two logits: torch.cat([torch.zeros",
        ),
        (
            lambda z: z[:, 0],
            "one number per image, (12,); wrap it so that it returns two logits: torch.stack([torch.zeros",
        ),
        (
            lambda z: z[:, :, None, None],
            "the model returns (12, 2, 1, 1) for 12 images; wrap it so that it returns (N, K)",
        ),
        (lambda z: z[:1], "the model returns (1, 2) for 12 images"),
        (lambda z: z[:, :0], "the model returns (12, 0) for 12 images"),
        (lambda z: z.long(), "the model returns torch.int64; wrap it so that it returns logits, not predictions"),
    ],
)
def test_outputs_that_are_no_logits_get_a_sentence(right, outputs, words):
    with pytest.raises(MirstError) as caught:
        inspect_model(Then(right, outputs), *stripes(12))
    assert words in str(caught.value)


def test_a_model_that_fails_gets_a_sentence_and_is_left_as_found():
    model = small_cnn(in_channels=3)
    before = snapshot(model)
    with pytest.raises(MirstError) as caught:
        inspect_model(model, *stripes(12))
    assert "the model fails on torch.float32 images of shape (1, 16, 16) with RuntimeError: Given groups=1" in str(
        caught.value
    )
    assert "--set data.channels=3), or wrap it in a module whose forward(self, x) has two lines" in str(caught.value)
    assert snapshot(model) == before


def test_the_two_logits_that_a_single_one_is_wrapped_into(right):
    """The remedy in the sentence predicts what the single logit does."""
    x, y = stripes(96)
    single = Then(right, lambda z: z[:, 1:] - z[:, :1])
    mended = Then(single, lambda z: torch.cat([torch.zeros_like(z), z], 1))
    assert inspect_model(mended, x, y) == []
    assert (mended(x).argmax(1) == right(x).argmax(1)).all()


def test_labels_need_a_class_each(right):
    x, y = stripes(12)
    y[0] = 4
    with pytest.raises(MirstError, match="the labels run from 0 to 4, but the model has 2 classes, 0 to 1;"):
        inspect_model(right, x, y)
    with pytest.raises(MirstError, match="the labels run from -1"):
        inspect_model(right, x, y.clamp(max=1) - 1)


def test_images_are_needed_and_must_be_pixels(right):
    x, y = stripes(12)
    with pytest.raises(MirstError, match="the batch has no images"):
        inspect_model(right, x[:0], y[:0])
    with pytest.raises(MirstError, match=r"images must lie in \[0, 1\]"):
        inspect_model(right, 255 * x, y)


def test_weights_that_do_not_exist_yet_get_a_sentence():
    with pytest.raises(MirstError, match="lazy layers without weights"):
        inspect_model(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), *stripes(12))


def test_the_model_is_left_as_found(right):
    model = small_cnn().eval()
    model[8].train()
    model[0].weight.requires_grad_(False)
    before, state = snapshot(model), torch.get_rng_state()
    x, y = stripes(96)
    untouched = x.clone()
    inspect_model(model, x, y)
    assert snapshot(model) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, untouched)


def test_a_model_without_weights_can_be_inspected():
    bright = Then(nn.Identity(), lambda x: torch.stack([0.45 - x.mean((1, 2, 3)), x.mean((1, 2, 3)) - 0.45], 1))
    assert inspect_model(bright, *stripes(96)) == []


class Forward(nn.Module):
    """A model with a forward pass of its own around a right one."""

    def __init__(self, model, function):
        super().__init__()
        self.model, self.function = model, function

    def forward(self, x):
        return self.function(self.model, x)


def under_no_grad(model, x):
    with torch.no_grad():
        return model(x)


def in_inference_mode(model, x):
    with torch.inference_mode():
        return model(x)


NO_PATH = {
    "no_grad": under_no_grad,
    "inference": in_inference_mode,
    "detached images": lambda model, x: model(x.detach()),
    "detached logits": lambda model, x: model(x).detach(),
    "rounding": lambda model, x: model(torch.round(255 * x) / 255),
    "thermometer": lambda model, x: model((x > torch.arange(64).view(-1, 1, 1) / 64).float().mean(1, keepdim=True)),
    "vote": lambda model, x: sum(F.one_hot(model(x + d).argmax(1), 2) for d in (0, 0.001, -0.001)).float(),
}


@pytest.mark.parametrize("name", NO_PATH)
def test_a_missing_gradient_path_is_named(right, name):
    findings = inspect_model(Forward(right, NO_PATH[name]).eval(), *stripes(96))
    assert [finding.startswith("no gradient flows from its outputs to the images") for finding in findings] == [True]


@pytest.mark.parametrize(
    "function",
    [
        lambda model, x: model(x) + torch.randn(len(x), 2),
        lambda model, x: model(x + 0.1 * torch.randn_like(x)),
        lambda model, x: model(F.dropout(x, 0.2, training=True)),
    ],
    ids=["logits", "noise", "dropout"],
)
def test_draws_in_eval_mode_are_named_and_leave_the_generator_alone(right, function):
    state = torch.get_rng_state()
    findings = inspect_model(Forward(right, function).eval(), *stripes(96))
    assert any("two calls on the same images give different outputs" in finding for finding in findings)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "asks", [lambda x: torch.is_grad_enabled(), lambda x: x.requires_grad], ids=["is_grad_enabled", "requires_grad"]
)
def test_a_model_that_is_another_one_with_gradients_is_named(right, asks):
    [finding] = inspect_model(Forward(right, lambda model, x: model(x) * (-1 if asks(x) else 1)).eval(), *stripes(96))
    assert finding.startswith("its outputs differ with gradients on and off")


def test_a_model_that_cannot_be_called_with_gradients_gets_a_sentence(right):
    model = Forward(right, lambda model, x: model(torch.from_numpy(x.numpy().round(2)))).eval()
    with pytest.raises(MirstError, match=r"fails on images that require a gradient with RuntimeError: .*\.detach\(\)"):
        inspect_model(model, *stripes(96))


def test_no_finite_logits_at_all_are_an_error(right):
    with pytest.raises(MirstError, match="not finite on any image"):
        inspect_model(Then(right, lambda z: z * torch.nan), *stripes(12))


def test_evaluate_warns_once_for_each_flaw_and_only_when_asked(right):
    x, y = stripes(96)
    model, data = Then(right, lambda z: z.softmax(1)).eval(), [(x[:50], y[:50]), (x[50:], y[50:])]
    for batches in (data, iter(data)):
        with pytest.warns(ModelWarning, match="its outputs are probabilities") as caught:
            rows = evaluate(model, batches, {})
        assert len(caught) == 1
        assert len(rows) == 96
    evaluate(model, data, {}, check=False)
    with pytest.warns(ModelWarning, match="probabilities"):
        distances(model, [(x[:4], y[:4])])


def test_the_classes_of_the_data_are_required(right):
    x, _ = stripes(12)
    require_classes(right, x, 2)
    with pytest.raises(MirstError, match="returns 2 logits, but there are 3 classes"):
        require_classes(right, x, 3)
