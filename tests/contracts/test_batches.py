"""Every door takes the same batches and refuses the same ones: attacks, defenses, evaluation and training."""

import functools
from collections import UserDict

import pandas as pd
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from mirst.attacks import ATTACKS, FGSM
from mirst.batches import checked_batch
from mirst.defenses import CE, DEFENSES
from mirst.errors import MirstError
from mirst.evaluation import distances, evaluate, evaluate_corruptions, robustness
from mirst.evaluation.worst_case import worst_case
from mirst.training import Training, fit
from tests.helpers import seeded, small_batch, small_cnn

BUDGETS = {"apgd": {"steps": 2}, "fab": {"steps": 2}, "square": {"queries": 10}}
CRAFTING = {name: {"steps": 2} for name in ("at", "llr", "trades", "rst", "sabr", "mtlibp")} | {
    "mirst": {"steps": 2, "instances": (1, 2), "weights": (0.5, 0.5)}
}


def attacked(name):
    return lambda model, x, y: ATTACKS[name](**BUDGETS.get(name, {}))(model, x, y, generator=seeded())


def defended(name):
    def loss(model, x, y):
        torch.manual_seed(0)
        return DEFENSES[name](**CRAFTING.get(name, {}))(model, x, y).total.detach()

    return loss


def trained(defense):
    def weights(model, batch):
        fit(model, [batch], defense, val=[batch], settings=Training(epochs=1))
        return torch.cat([value.flatten().double() for value in model.state_dict().values()])

    return weights


CALLED = {f"attack {name}": attacked(name) for name in ATTACKS} | {
    f"defense {name}": defended(name) for name in DEFENSES
}
"""Doors for images and labels."""
LOADED = {
    "evaluate": lambda model, batch: evaluate(model, [batch], {"fgsm": FGSM()}),
    "worst_case": lambda model, batch: worst_case(model, [batch], {"all": {"fgsm": FGSM()}})[0],
    "robustness": lambda model, batch: robustness(model, [batch], "paper", (0.01,), check=False).rows,
    "distances": lambda model, batch: distances(model, [batch]).rows,
    "corruptions": lambda model, batch: evaluate_corruptions(model, [batch], ["a", "b"], "b"),
    **{f"fit {name}": trained(DEFENSES[name](class_weights=(1.0, 1.0), **CRAFTING.get(name, {}))) for name in DEFENSES},
}
"""Doors for batches of a loader."""
BOTH = {name: lambda model, x, y, door=door: door(model, (x, y)) for name, door in LOADED.items()} | CALLED

RIGHT = {
    "int8": lambda x, y: (x, y.to(torch.int8)),
    "uint8": lambda x, y: (x, y.to(torch.uint8)),
    "uint16": lambda x, y: (x, y.to(torch.uint16)),
    "int32": lambda x, y: (x, y.int()),
    "bool": lambda x, y: (x, y.bool()),
    "meta tensors": lambda x, y: (MetaTensor(x), MetaTensor(y)),
    "a rounding step above 1": lambda x, y: (torch.where(x == 1, 1 + torch.finfo(x.dtype).eps, x), y),
}
WRONG = {
    "column": lambda x, y: (x, y[:, None]),
    "one-hot": lambda x, y: (x, torch.eye(2)[y]),
    "float labels": lambda x, y: (x, y.float()),
    "ignore index": lambda x, y: (x, torch.where(y == 0, -100, y)),
    "negative": lambda x, y: (x, y - 1),
    "too few labels": lambda x, y: (x, y[:2]),
    "numpy": lambda x, y: (x.numpy(), y.numpy()),
    "list": lambda x, y: (x, y.tolist()),
    "uint8 images": lambda x, y: ((x * 255).byte(), y),
    "0 to 255": lambda x, y: (x * 255, y),
    "normalised": lambda x, y: ((x - 0.449) / 0.226, y),
    "-1 to 1": lambda x, y: (2 * x - 1, y),
    "NaN": lambda x, y: (torch.where(x == 1, torch.nan, x), y),
    "one image": lambda x, y: (x[0], y[0]),
    "channels last": lambda x, y: (x.permute(0, 2, 3, 1), y),
    "complex": lambda x, y: (x + 0j, y),
    "empty": lambda x, y: (x[:0], y[:0]),
}
PACKED = {
    "list": lambda x, y: [x, y],
    "three": lambda x, y: (x, y, ["path"] * len(x)),
    "dict": lambda x, y: {"image": x, "label": y, "path": ["path"] * len(x)},
    "mapping": lambda x, y: UserDict(pixel_values=x, labels=y),
    "dict of meta tensors": lambda x, y: {"img": MetaTensor(x), "label": y},
}


@functools.cache
def plain_result(door):
    """On the batch of the fixture."""
    return BOTH[door](small_cnn().eval(), *small_batch())


def assert_equal(a, b):
    if isinstance(a, Tensor):
        assert type(a) is Tensor
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    else:
        pd.testing.assert_frame_equal(a, b)


@pytest.mark.parametrize("door", BOTH)
@pytest.mark.parametrize("kind", RIGHT)
def test_what_is_taken_counts_as_the_plain_batch(door, kind, batch):
    assert_equal(BOTH[door](small_cnn().eval(), *RIGHT[kind](*batch)), plain_result(door))


@pytest.mark.parametrize("door", BOTH)
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_gets_the_same_sentence_everywhere(door, kind, batch):
    x, y = WRONG[kind](*batch)
    with pytest.raises(MirstError) as expected:
        checked_batch(x, y)
    with pytest.raises(MirstError) as caught:
        BOTH[door](small_cnn().eval(), x, y)
    assert str(caught.value).endswith(str(expected.value))


@pytest.mark.parametrize("door", [name for name in BOTH if name.startswith(("attack", "defense", "fit"))])
@pytest.mark.parametrize(
    ("shift", "words"), [(1, "from 1 to 2, .* 2 classes, 0 to 1; subtract 1"), (4, "from 4 to 5,")]
)
def test_labels_must_be_classes_of_the_model(door, shift, words, batch):
    x, y = batch
    with pytest.raises(MirstError, match=f"the labels run {words}"):
        BOTH[door](small_cnn().eval(), x, y + shift)


@pytest.mark.parametrize("door", LOADED)
@pytest.mark.parametrize("kind", PACKED)
def test_batches_are_unpacked(door, kind, batch):
    assert_equal(LOADED[door](small_cnn().eval(), PACKED[kind](*batch)), plain_result(door))


@pytest.mark.parametrize("door", LOADED)
def test_batches_of_another_kind_get_a_sentence(door, batch):
    x, y = batch
    with pytest.raises(MirstError, match="batch 1: the batch has the keys data, target; it needs"):
        LOADED[door](small_cnn().eval(), {"data": x, "target": y})
    with pytest.raises(MirstError, match=r"batch 1: a batch must be .* of type Tensor"):
        LOADED[door](small_cnn().eval(), x)


def test_plain_training_takes_only_images_in_range(batch):
    """CE alone would train on anything."""
    x, y = batch
    for images in (x * 255, (x - 0.449) / 0.226, 2 * x - 1):
        model = small_cnn().eval()
        before = [value.clone() for value in model.state_dict().values()]
        with pytest.raises(MirstError, match=r"training batch 2: images must lie in \[0, 1\]"):
            fit(model, [(x, y), (images, y)], CE(), settings=Training(epochs=1))
        assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
