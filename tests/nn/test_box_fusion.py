import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mirst.attacks import APGD, CW, FAB, FGSM, PGD, Square
from mirst.defenses import RST
from mirst.errors import MirstError
from mirst.evaluation.model_checks import inspect_model
from mirst.evaluation.suites import has_drop_max, with_max_pool
from mirst.nn import (
    BoxFusion,
    DropMax2d,
    box_code,
    box_features,
    build_model,
    load_backbone,
    reference_mode,
    replace_first_max_pool,
    replace_head,
    save_backbone,
)
from mirst.nn.accelerate.folded_batch_norms import folded
from mirst.nn.box_fusion import BoxInput, BoxRegression, pixel_part, split_box
from mirst.training import EMA, Training, fit
from tests.helpers import FUSED, fused, misclassified, seeded, small_batch, small_cnn, with_boxes

BOXES = torch.tensor([[0.3, -2.0], [-0.5, -4.0], [math.nan, math.nan], [0.0, -1.0], [1.0, -0.5], [-1.0, -6.0]])


def oracle(model, images, boxes, positive=1, bound=1.5):
    """Log-odds in float64 by the formula of the documentation."""
    with torch.no_grad():
        pixels = model.pixels(images).double().numpy()
    z = pixels[:, positive] - pixels[:, 1 - positive]
    sd = math.sqrt(float(model.pixel_var) + 1e-5)
    box = []
    for row in boxes.double().numpy():
        standard = [(v - m) / s for v, m, s in zip(row, FUSED.mean, FUSED.std, strict=True)]
        known = not np.isnan(row).any()
        box.append(
            FUSED.bias + known * sum(w * (v if known else 0) for w, v in zip(FUSED.weight, standard, strict=True))
        )
    return np.array(box) + bound * np.tanh(z / sd)


@pytest.mark.parametrize("positive", [0, 1])
def test_logits_are_those_of_the_formula(positive):
    x, _ = small_batch()
    model = fused(positive=positive).eval()
    model.pixel_var.fill_(0.02)
    with torch.no_grad():
        logits = model(torch.cat([x, box_code(BOXES, 16)], 1))
    assert logits.sum(1).abs().max() < 1e-6
    found = (logits[:, positive] - logits[:, 1 - positive]).numpy()
    np.testing.assert_allclose(found, oracle(model, x, BOXES, positive), atol=2e-3)  # the box is rounded to 16 bits


@given(st.floats(-8, 8), st.integers(0, 100))
def test_pixels_move_the_box_by_no_more_than_the_bound(scale, seed):
    model = fused().eval()
    images = scale * torch.randn(6, 1, 16, 16, generator=seeded(seed))
    planes = box_code(BOXES, 16)
    with torch.no_grad():
        odds = model(torch.cat([images, planes], 1)).diff(dim=1)
        box = model.box_logit(*box_features(planes))
    assert (odds[:, 0] - box).abs().max() <= 1.5 + 1e-5


def test_the_running_deviation_is_that_of_the_weighted_mixture_of_all_batches():
    model = BoxFusion(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), positive=1).train()
    batches = [torch.rand(n, 1, 16, 16, generator=seeded(n)) for n in (6, 1, 4, 8)]
    shares, means, seconds = [1.0], [0.0], [1.0]
    for images in batches:
        with torch.no_grad():
            z = model.pixels(images).diff(dim=1).double()
        shares = [0.9 * share for share in shares] + [0.1]
        means.append(z.mean().item())
        seconds.append(z.square().mean().item())
        model(torch.cat([images, box_code(torch.zeros(len(images), 2), 16)], 1))
    mean = np.dot(shares, means)
    assert float(model.pixel_mean) == pytest.approx(mean, abs=1e-6)
    assert float(model.pixel_var) == pytest.approx(np.dot(shares, seconds) - mean**2, rel=1e-4)


def test_eval_mode_freezes_the_deviation_and_train_mode_uses_the_one_from_before():
    x, _ = with_boxes(*small_batch())
    model = BoxFusion(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), positive=1).eval()
    first = model(x)
    assert (model.pixel_mean, model.pixel_var) == (0, 1)
    model.train()
    assert torch.equal(model(x), first)
    assert model.pixel_var != 1
    model.eval()
    assert torch.equal(model(x), model(x))
    assert not torch.equal(model(x), first)


def test_a_gradient_flows_after_the_statistics_were_updated():
    x, y = with_boxes(*small_batch())
    model = fused().train()
    nn.functional.cross_entropy(model(x), y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def linear(bias=0.0, seed=0):
    """A linear pixel network, its weights, and its fusion."""
    weight = torch.randn(256, generator=seeded(seed), dtype=torch.float64)
    weight -= weight.mean()  # gray images then have a logit near the bias
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([torch.zeros(256), weight.float()]))
        net[1].bias.copy_(torch.tensor([0.0, bias]))
    model = BoxFusion(net, positive=1).eval()
    model.set_box(FUSED)
    return model, net[1].weight[1].detach().double().numpy(), bias


def best_odds(model, images, boxes, y, weight, bias, eps):
    """The closed-form optimum: the log-odds grow with z, and z is linear, so each pixel goes to an end of its range."""
    flat = images.flatten(1).double().numpy()
    down = (y.numpy() == 1)[:, None]
    towards = np.where(down, -1, 1) * np.sign(weight)
    optimum = np.clip(flat + eps * towards, 0, 1)
    z = optimum @ weight + bias
    with torch.no_grad():
        box = model.box_logit(*box_features(box_code(boxes, 16))).double().numpy()
    return box + 1.5 * np.tanh(z / math.sqrt(float(model.pixel_var) + 1e-5))


@pytest.mark.parametrize(
    "attack",
    [APGD(eps=0.05, loss="margin"), APGD(eps=0.05), PGD(eps=0.05, step_size=0.01), CW(eps=0.05, step_size=0.01)],
)
@pytest.mark.parametrize("deviations", [1, 5, 15, 35])
def test_attacks_reach_the_closed_form_optimum_also_where_tanh_is_flat(attack, deviations):
    """`deviations`: how far the clean images are from z = 0, on the side of their label, in units of sd."""
    model, weight, _ = linear()
    y = torch.arange(6) % 2
    images = 0.3 + 0.4 * torch.rand(6, 1, 16, 16, generator=seeded(2), dtype=torch.float32)
    z = images.flatten(1).double().numpy() @ weight
    reach = 0.05 * np.abs(weight).sum()
    wanted = np.where(y.numpy() == 1, 1, -1) * 0.6 * reach  # the attack reaches past 0
    with torch.no_grad():
        images += torch.tensor((wanted - z) / (weight @ weight), dtype=torch.float32).view(-1, 1, 1, 1) * torch.tensor(
            weight, dtype=torch.float32
        ).view(1, 1, 16, 16)
    assert images.min() >= 0.05
    assert images.max() <= 0.95
    sd = 0.6 * reach / deviations
    model.pixel_var.fill_(sd**2)
    boxes = torch.zeros(6, 2) + torch.tensor(FUSED.mean)
    x = torch.cat([images, box_code(boxes, 16)], 1)
    attacked = attack(model, x, y, generator=seeded())
    with torch.no_grad():
        found = model(attacked).diff(dim=1)[:, 0].double().numpy()
    np.testing.assert_allclose(found, best_odds(model, images, boxes, y, weight, 0.0, 0.05), atol=2e-3)
    assert misclassified(model, attacked, y).all()


def test_the_gradient_survives_where_that_of_torch_tanh_is_0():
    model, _, _ = linear()
    x = torch.cat([torch.full((1, 1, 16, 16), 0.5), box_code(torch.zeros(1, 2), 16)], 1)
    for distance in (0.0, 1.0, 10.0, 20.0, 40.0):
        for sign in (-1, 1):
            with torch.no_grad():
                model.pixels[1].bias[1] += sign * distance - model.pixels(x[:, :-1]).diff(dim=1).item()
            images = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(model(images).diff(dim=1).sum(), images)
            sd = math.sqrt(1 + 1e-5)
            expected = 1.5 / math.cosh(distance / sd) ** 2 / sd * model.pixels[1].weight[1].detach().double()
            found = gradient[0, 0].flatten().double()
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=0)
            assert not gradient[0, 1].any()
    assert torch.autograd.functional.jacobian(torch.tanh, torch.tensor(10.0)) == 0


def test_an_image_whose_box_says_more_than_the_bound_cannot_be_attacked():
    x, _ = small_batch()
    model = fused().eval()
    boxes = torch.tensor([[2.0, -0.1], [-2.0, -8.0]]).repeat(3, 1)
    planes = box_code(boxes, 16)
    assert (model.box_logit(*box_features(planes)).abs() > 1.5).all()
    x = torch.cat([x, planes], 1)
    y = model(x).argmax(1)
    for attack in (FGSM(eps=0.4), APGD(eps=0.4, steps=20), Square(eps=0.4, queries=50), FAB(eps=0.4, steps=10)):
        assert not misclassified(model, attack(model, x, y, generator=seeded()), y).any()


def test_the_folded_copy_and_drop_max_work_through_the_fusion():
    x, y = with_boxes(*small_batch())
    model = fused().eval()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded(model).modules())
    torch.testing.assert_close(folded(model)(x), model(x))
    dropped = replace_first_max_pool(copy.deepcopy(model))
    assert isinstance(dropped.pixels[3], DropMax2d)
    assert has_drop_max(dropped)
    assert torch.equal(with_max_pool(dropped)(x), model(x))
    fast = PGD(eps=0.1, steps=5)(dropped, x, y)
    with reference_mode():
        torch.testing.assert_close(fast, PGD(eps=0.1, steps=5)(dropped, x, y))


def test_a_sound_model_gets_no_warning():
    generator = seeded(3)
    x = torch.rand(40, 1, 16, 16, generator=generator)
    y = torch.arange(40) % 2
    boxes = torch.stack([torch.randn(40, generator=generator), -2 + torch.randn(40, generator=generator)], 1)
    assert list(inspect_model(fused().eval(), torch.cat([x, box_code(boxes, 16)], 1), y)) == []


def test_the_parts_of_ordinary_models_wrappers_and_ensembles():
    x, _ = with_boxes(*small_batch())
    plain, one, other = small_cnn().eval(), fused().eval(), fused(seed=1).eval()
    assert pixel_part(plain) is None
    assert [part.shape[1] for part in split_box(plain, x)] == [2, 0]
    assert pixel_part(nn.Sequential(one)) is one.pixels
    assert [part.shape[1] for part in split_box(nn.Sequential(one), x)] == [1, 1]
    both = nn.ModuleList([one, other])
    with torch.no_grad():
        mean = (one.pixels(x[:, :1]) + other.pixels(x[:, :1])) / 2
        torch.testing.assert_close(pixel_part(both)(x[:, :1]), mean)


def test_two_inputs_give_what_the_box_code_gives():
    images, _ = small_batch()
    model = fused().eval()
    assert torch.equal(BoxInput(model)(images, BOXES), model(torch.cat([images, box_code(BOXES, 16)], 1)))


def test_backbones_are_those_of_the_pixel_network(tmp_path):
    source = BoxFusion(build_model("resnet_tiny", 1, 2), positive=1)
    save_backbone(tmp_path / "fused.safetensors", source)
    for target in (build_model("resnet_tiny", 1, 5), BoxFusion(build_model("resnet_tiny", 1, 2), positive=0)):
        loaded = load_backbone(target, tmp_path / "fused.safetensors")
        assert loaded.matched == loaded.of == 72
        network = getattr(target, "pixels", target).network
        assert torch.equal(network.conv1.weight, source.pixels.network.conv1.weight)
    replace_head(source, lambda width: nn.Linear(width, 7))
    assert source.pixels.network.fc.out_features == 7


@pytest.mark.parametrize("extensions", [[], [EMA(decay=0.5)]], ids=["plain", "ema"])
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, extensions):
    x, y = with_boxes(*small_batch())
    data = [(x[:4], y[:4]), (x[4:], y[4:])]
    settings = Training(epochs=3, warmup=0, ramp=0)

    def trained(checkpoint, on_epoch=lambda _: None):
        model = fused()
        fit(
            model,
            data,
            RST(steps=2),
            settings=settings,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
            extensions=extensions,
        )
        return model.state_dict()

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    expected = trained(None)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "state", stop)
    resumed = trained(tmp_path / "state")
    assert expected["pixel_var"] != fused().pixel_var
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"positive": 2}, "positive is 2"), ({"bound": 0.0}, "bound is 0"), ({"bound": math.nan}, "bound is nan")],
)
def test_bad_arguments_get_a_sentence(wrong, words):
    with pytest.raises(MirstError, match=words):
        BoxFusion(nn.Identity(), **({"positive": 1} | wrong))


def test_a_regression_is_kept_in_buffers():
    model = fused()
    kept = BoxRegression(*(tuple(model.state_dict()[name].tolist()) for name in ("box_mean", "box_std", "box_weight")),
                         bias=model.box_bias.item())  # fmt: skip
    assert np.allclose(np.hstack(kept), np.hstack(FUSED))
