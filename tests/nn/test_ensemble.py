import copy
import json
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mirst.errors import MirstError
from mirst.nn import (
    BoxFusion,
    DropMax2d,
    Ensemble,
    build_model,
    load_model,
    read_card,
    replace_first_max_pool,
    save_model,
)
from mirst.nn.box_fusion import BoxInput, fusions, pixel_part
from mirst.nn.logits import input_gradient
from tests.helpers import CARD, ensemble, fused_ensemble, small_batch, small_cnn, with_boxes


class Fixed(nn.Module):
    """Returns the same logits for every image."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits, dtype=torch.float64))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(*[st.floats(-5, 5)] * 3), min_size=2, max_size=5),
    st.integers(0, 1),
)
def test_the_log_odds_are_the_mean_distance_of_the_members_from_their_thresholds(members, positive):
    model = Ensemble(
        [Fixed([first, second]) for first, second, _ in members], [t for *_, t in members], positive
    ).double()
    (logits,) = model(torch.zeros(1, 1, 2, 2)).tolist()
    above = [(pair[positive] - pair[1 - positive]) - t for *pair, t in members]
    assert logits[positive] - logits[1 - positive] == pytest.approx(sum(above) / len(above), abs=1e-5)
    if all(one > 1e-4 for one in above):  # they agree
        assert logits[positive] > logits[1 - positive]


def test_more_classes_predict_as_the_mean_of_the_log_softmax():
    members = [small_cnn(classes=4, seed=seed).eval() for seed in range(3)]
    x, _ = small_batch()
    with torch.no_grad():
        found = Ensemble(members)(x)
        expected = torch.stack([member(x).log_softmax(1) for member in members]).mean(0)
    torch.testing.assert_close(found.softmax(1), expected.softmax(1))


@pytest.mark.parametrize("make", [ensemble, fused_ensemble])
def test_the_gradient_is_the_mean_of_the_members_gradients(make):
    model = make().eval()
    x, _ = small_batch() if make is ensemble else with_boxes(*small_batch())

    def gradient(of):
        images = x.clone().requires_grad_()
        logits = of(images)
        return input_gradient(logits[:, 1] - logits[:, 0], images)

    expected = torch.stack([gradient(member) for member in model.members]).mean(0)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient(model), expected)


def test_members_that_take_a_box_are_fused_each_with_its_own():
    model = fused_ensemble(positive=0).eval()
    x, _ = with_boxes(*small_batch())
    assert len(fusions(model)) == 2
    boxes = torch.stack([torch.linspace(-0.5, 0.5, len(x)), torch.linspace(-4, -1, len(x))], 1)
    boxes[-1] = torch.nan
    with torch.no_grad():
        assert torch.equal(BoxInput(model)(x[:, :-1], boxes), model(x))
        pixels = [member.pixels(x[:, :-1]) for member in model.members]
        torch.testing.assert_close(pixel_part(model)(x[:, :-1]), (pixels[0] + pixels[1]) / 2)


def test_pixels_move_the_ensemble_of_fusions_by_the_bound_at_most():
    model = fused_ensemble().eval()
    x, _ = with_boxes(*small_batch())
    moved = torch.cat([torch.rand_like(x[:, :-1]), x[:, -1:]], 1)
    with torch.no_grad():
        gap = [logits[:, 1] - logits[:, 0] for logits in (model(x), model(moved))]
    assert (gap[0] - gap[1]).abs().max() <= 2 * 1.5 + 1e-5


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        (lambda: [small_cnn()], {}, "there are 1 models; an ensemble has 2 to 32"),
        (lambda: [small_cnn()] * 33, {}, "there are 33 models"),
        (lambda: [small_cnn()] * 2, {}, "the same model object"),
        (lambda: [small_cnn(), small_cnn(classes=3)], {}, "one architecture"),
        (lambda: [small_cnn(), BoxFusion(small_cnn(), 1)], {}, "one architecture"),
        (lambda: [small_cnn(), small_cnn()], {"thresholds": [0.0]}, "1 thresholds for 2 models"),
        (lambda: [small_cnn(), small_cnn()], {"thresholds": [0.0, 0.0], "positive": 2}, "positive is 2"),
    ],
)
def test_what_is_no_ensemble_gets_a_sentence(models, options, words):
    with pytest.raises(MirstError, match=words):
        Ensemble(models(), **options)


def saved(path, fields, *, bound=None, classes=2, thresholds=(0.2, -0.4, 0.1)):
    members = [build_model("resnet_tiny", 1, classes, drop_max=True) for _ in range(3)]
    if bound is not None:
        members = [BoxFusion(member, 1, bound) for member in members]
    model = Ensemble(members, thresholds if classes == 2 else None).eval()
    card = replace(CARD, members=3, **fields)
    save_model(path, model, card)
    return model, card


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"box": "fused", "bound": 0.7, "view": "lesion"}, {"bound": 0.7}),
        ({"classes": ("a", "b", "malignant")}, {"classes": 3}),
    ],
)
def test_a_checkpoint_gives_the_same_logits(tmp_path, fields, options):
    model, card = saved(tmp_path / "model.safetensors", fields, **options)
    loaded, read = load_model(tmp_path / "model.safetensors")
    x, y = torch.rand(3, 1, 32, 32), torch.zeros(3)
    x = with_boxes(x, y)[0] if "box" in fields else x
    with torch.no_grad():
        assert torch.equal(loaded(x), model(x))
    assert read == card
    assert isinstance(loaded, Ensemble)
    assert not any(layer.training for layer in loaded.modules())
    assert sum(isinstance(layer, DropMax2d) for layer in loaded.modules()) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": 0}, "its members: "),
        ({"members": 33}, "its members: "),
        ({"members": True}, "its members: "),
        ({"members": 3, "threshold": 0.5}, "it has 3 members, but its threshold is 0.5"),
        ({"members": 4}, "do not fit its model"),
        ({"members": 1}, "do not fit its model"),
        ({"classes": ("a", "b", "malignant")}, "do not fit its model"),
    ],
)
def test_a_card_that_does_not_fit_gets_a_sentence(tmp_path, change, words):
    model, card = saved(tmp_path / "model.safetensors", {})
    save_model(tmp_path / "other.safetensors", model, replace(card, **change))
    with pytest.raises(MirstError, match=words):
        load_model(tmp_path / "other.safetensors")


def test_a_card_of_an_older_version_is_one_of_a_single_model(tmp_path):
    old = {key: value for key, value in asdict(CARD).items() if key != "members"}
    weights = build_model("resnet_tiny", 1, 2, drop_max=True).state_dict()
    save_file(weights, tmp_path / "old.safetensors", {"mirst": json.dumps(old)})
    assert read_card(tmp_path / "old.safetensors").members == 1
    assert not isinstance(load_model(tmp_path / "old.safetensors")[0], Ensemble)


def test_the_members_are_those_objects_and_keep_their_mode():
    members = [small_cnn(seed=seed) for seed in (0, 1)]
    assert [*Ensemble(members).members] == members
    assert Ensemble(members).training
    assert not Ensemble([member.eval() for member in members]).training
    copied = copy.deepcopy(replace_first_max_pool(Ensemble(members)))
    assert isinstance(copied, Ensemble)
