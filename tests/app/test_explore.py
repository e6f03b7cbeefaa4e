"""What the explorer computes, without its page."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mirst.app.explore import (
    ATTACKS,
    ExploredModel,
    attack_image,
    certified_eps,
    open_explored_model,
    prediction,
    prepared,
    smallest_eps,
)
from mirst.app.probabilities import cut
from mirst.attacks import FGSM
from mirst.data import Box, ImageFile
from mirst.errors import MirstError
from mirst.evaluation.predictions import images_for
from tests import helpers
from tests.helpers import fused, small_cnn

CARD = replace(helpers.CARD, drop_max=False, size=16)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(60, 190, (20, 24), dtype=np.uint8))


@pytest.fixture
def subject():
    return ExploredModel("small", small_cnn().eval(), CARD)


class Bright(nn.Module):
    """Linear: malignant from a mean brightness of `level` on, whose smallest eps is known."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, x):
        score = 100 * (x.mean((1, 2, 3)) - self.level)
        return torch.stack([-score, score], 1)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_stays_within_its_eps_and_is_seen(subject, image, attack):
    seen = attack_image(subject, image, attack, 8 / 255, 5)
    assert seen.clean.shape == seen.attacked.shape == (256, 256)
    assert seen.perturbation.shape == (256, 256, 3)
    change = np.abs(seen.attacked.astype(int) - seen.clean.astype(int))
    assert 0 < change.max() <= 9  # 8 and the rounding to gray levels
    assert all(sum(shares.values()) == pytest.approx(1) for shares in seen.probabilities)
    again = attack_image(subject, image, attack, 8 / 255, 5)
    assert np.array_equal(again.attacked, seen.attacked)


def test_what_is_shown_is_the_attack_on_the_models_own_prediction(subject, image):
    seen = attack_image(subject, image, "FGSM (one step)", 8 / 255, 1)
    x = prepared(image, CARD)
    with torch.no_grad():
        own = subject.model(x).argmax(1)
    moved = FGSM(eps=8 / 255)(subject.model, x, own)
    assert np.array_equal(seen.attacked[::16, ::16], (moved[0, 0] * 255).round().byte().numpy())
    with torch.no_grad():
        after = subject.model(moved).softmax(1)[0, 1].item()
    assert seen.probabilities[1]["malignant"] == pytest.approx(after, abs=1e-5)
    red = (seen.perturbation[..., 0] > seen.perturbation[..., 2])[::16, ::16]
    change = (moved - x)[0, 0].numpy()
    assert np.array_equal(red[change != 0], change[change != 0] > 0)


def test_eps_0_changes_nothing(subject, image):
    for attack in ("PGD", "CW (PGD on the margin)", "FGSM (one step)"):
        seen = attack_image(subject, image, attack, 0.0, 5)
        assert np.array_equal(seen.clean, seen.attacked)
        assert not seen.flipped


@pytest.mark.parametrize("distance", [0.7, 3.3, 11.4])
def test_the_smallest_eps_of_a_linear_model(image, distance):
    """Known in closed form: the mean brightness must move by `distance`; found to a sixteenth of a gray level."""
    x = prepared(image, CARD)
    subject = ExploredModel("bright", Bright(x.mean().item() + distance / 255), CARD)
    found = smallest_eps(subject, image) * 255
    assert distance <= found + 1e-3
    assert found <= distance + 1 / 16 + 0.05


def test_a_prediction_out_of_reach_has_no_smallest_eps(image):
    x = prepared(image, CARD)
    assert smallest_eps(ExploredModel("far", Bright(x.mean().item() + 20 / 255), CARD), image) is None


def test_residual_maps_of_both_pools_or_none(image, finished):
    trained = open_explored_model(finished / "trials" / "mirst+dm-fold0-seed0" / "model.safetensors")
    assert trained.title == "mirst+dm-fold0-seed0"
    seen = attack_image(trained, image, "PGD", 5 / 255, 3)
    assert list(seen.residuals) == ["max-pool", "drop-max"]
    assert attack_image(ExploredModel("bright", Bright(0.5), CARD), image, "PGD", 5 / 255, 3).residuals == {}


def test_the_operating_threshold_decides_and_is_what_attacks_make_for(image):
    """Square stops at the first success: without the threshold it would see one before it begins."""
    x = prepared(image, CARD)
    card = replace(CARD, threshold=2.0)
    far = ExploredModel("bright", Bright(x.mean().item() - 5 / 255), card)  # log-odds 3.9 at first
    assert cut(card) == pytest.approx(0.881, abs=1e-3)
    near = ExploredModel("bright", Bright(x.mean().item() - 1 / 255), card)  # log-odds 0.8: benign at this threshold
    assert prediction(far, image) == "malignant"
    assert prediction(near, image) == "benign"
    for attack in ATTACKS:
        seen = attack_image(near, image, attack, 16 / 255, 20)
        assert seen.predictions == ("benign", "malignant")
        assert seen.distance <= 16 / 255 + 1e-6


def test_more_than_is_offered_is_refused(subject, image):
    for eps, steps in ((17 / 255, 5), (-0.1, 5), (float("nan"), 5), (5 / 255, 0), (5 / 255, 101)):
        with pytest.raises(MirstError, match="choose at most"):
            attack_image(subject, image, "PGD", eps, steps)


def test_an_unknown_attack_gets_a_sentence(subject, image):
    with pytest.raises(MirstError, match="unknown attack bfg; choose PGD, "):
        attack_image(subject, image, "bfg", 5 / 255, 3)


LESION = replace(CARD, view="lesion", margin=0.25)
FUSED = replace(LESION, box="fused", bound=1.5)
BOX = Box(6, 4, 16, 12)


@pytest.mark.parametrize("card", [CARD, LESION, FUSED])
def test_the_model_sees_what_predict_gives_it(card, image, tmp_path):
    image.save(tmp_path / "image.png")
    expected = images_for(card, [ImageFile(tmp_path / "image.png")], [BOX])
    x = prepared(image, card, BOX)
    assert x.shape == (1, card.inputs, 16, 16)
    assert torch.equal(x, expected)


@pytest.mark.parametrize("card", [LESION, FUSED])
def test_without_a_box_a_model_that_saw_whole_images_sees_what_predict_gives_it(card, image, tmp_path):
    card = replace(card, without_box="whole")
    image.save(tmp_path / "image.png")
    subject = ExploredModel("whole", (fused() if card.box == "fused" else small_cnn()).eval(), card)
    expected = images_for(card, [ImageFile(tmp_path / "image.png")], [None])
    assert torch.equal(prepared(image, card), expected)
    with torch.no_grad():
        predicted = card.classes[int(subject.model(expected).argmax())]
    assert prediction(subject, image) == predicted
    view = attack_image(subject, image, "FGSM (one step)", 8 / 255, 1)
    assert np.array_equal(view.clean[::16, ::16], (expected[0, 0] * 255).round().byte().numpy())
    assert view.predictions[0] == predicted


def test_the_attack_is_on_the_crop(image):
    """With this box and margin, the crop is 15 pixels of the image wide."""
    subject = ExploredModel("lesion", small_cnn().eval(), LESION)
    view = attack_image(subject, image, "FGSM (one step)", 8 / 255, 1, BOX)
    x = prepared(image, LESION, BOX)
    with torch.no_grad():
        own = subject.model(x).argmax(1)
    moved = FGSM(eps=8 / 255)(subject.model, x, own)
    assert np.array_equal(view.attacked[::16, ::16], (moved[0, 0] * 255).round().byte().numpy())
    other = attack_image(subject, image, "FGSM (one step)", 8 / 255, 1, Box(10, 8, 20, 16))
    assert not np.array_equal(other.clean, view.clean)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_fused_model_is_attacked_and_its_picture_is_the_crop(attack, image):
    subject = ExploredModel("fused", fused().eval(), FUSED)
    view = attack_image(subject, image, attack, 8 / 255, 5, BOX)
    assert view.clean.shape == view.attacked.shape == (256, 256)
    assert view.perturbation.shape == (256, 256, 3)
    assert np.abs(view.attacked.astype(int) - view.clean.astype(int)).max() <= 9
    assert list(view.residuals) == ["max-pool", "drop-max"]


def test_the_smallest_eps_is_that_of_the_crop(image):
    """The mean brightness of the crop must move by 4 gray levels, that of the whole image by another number."""
    model = Bright(prepared(image, LESION, BOX).mean().item() + 4 / 255)
    assert smallest_eps(ExploredModel("crop", model, LESION), image, BOX) * 255 == pytest.approx(4, abs=0.15)
    whole = ExploredModel("whole", model, CARD)
    assert smallest_eps(whole, image, BOX) == smallest_eps(whole, image) != pytest.approx(4 / 255, abs=0.2 / 255)


def test_without_a_box_a_lesion_model_classifies_nothing(image):
    subject = ExploredModel("lesion", small_cnn().eval(), LESION)
    assert not subject.sees(None)
    assert prediction(subject, image) is None
    assert smallest_eps(subject, image) is None
    with pytest.raises(MirstError, match="draw the box of the lesion"):
        attack_image(subject, image, "PGD", 5 / 255, 3)
    with pytest.raises(MirstError, match="covers less than a pixel of the 24 x 20 image"):
        attack_image(subject, image, "PGD", 5 / 255, 3, Box(30, 0, 40, 10))


def test_no_attack_flips_a_prediction_within_its_certificate(image):
    card = replace(CARD, threshold=0.5)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(256, 2)).eval()
    with torch.no_grad():
        linear[1].weight.copy_(torch.tensor([[-0.4], [0.4]]).expand(2, 256))  # as `Bright`
        linear[1].bias.copy_(torch.tensor([30.0, -30.0]))
    dark = ExploredModel("dark", linear, card)
    proven, found = certified_eps(dark, image), smallest_eps(dark, image)
    assert proven is not None
    assert proven > 0.05
    assert found is None or proven < found
    assert not attack_image(dark, image, "PGD", 0.9 * min(proven, 16 / 255), 20).flipped


def test_a_model_without_bounds_has_no_certificate(image):
    class Noisy(nn.Module):
        def forward(self, x):
            return Bright(0.3)(x + 0.1 * torch.rand_like(x))

    assert certified_eps(ExploredModel("noisy", Noisy(), CARD), image) is None


def test_a_model_that_lacks_its_box_has_no_certificate(image, subject):
    lesion = replace(subject, card=replace(CARD, view="lesion"))
    assert certified_eps(lesion, image) is None
