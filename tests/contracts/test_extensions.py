"""What every extension of the training loop must hold."""

import copy
import dataclasses
import signal
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mirst.defenses import CE, MIRST, RST
from mirst.errors import MirstError
from mirst.training import AWP, EMA, EXTENSIONS, Extension, Training, fit
from tests.helpers import small_cnn, snapshot

VARIANTS = {"ema": [{}, {"decay": 0.5}], "awp": [{}, {"gamma": 0.1}]}
CASES = [(name, fields) for name, variants in VARIANTS.items() for fields in variants]
every_case = pytest.mark.parametrize(("name", "fields"), CASES, ids=lambda v: v if isinstance(v, str) else ",".join(v))
SETTINGS = Training(epochs=4, lr=3e-3, warmup=0.25, ramp=0.25, select="best_robust")
STEPS = 3
"""Per epoch of `loader`."""


def loader(at=()):
    """Twelve images, four a step; a signal is sent while the batches with the numbers of `at` are drawn."""
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.rand(12, 1, 16, 16, generator=generator), torch.arange(12) % 2)
    return Signalling(data, at)


class Signalling(DataLoader):
    def __init__(self, data, at):
        super().__init__(data, batch_size=4, shuffle=True)
        self.drawn = 0
        self.at = set(at)

    def __iter__(self):
        for batch in super().__iter__():
            self.drawn += 1
            if self.drawn in self.at:
                signal.raise_signal(signal.SIGINT)
            yield batch


def train(extensions, at=(), checkpoint=None, seed=0, defense=None):
    model = small_cnn()
    defense = defense or RST(steps=2, random_start=True)
    val = DataLoader(loader().dataset, batch_size=12)
    result = fit(
        model,
        loader(at),
        defense,
        val=val,
        settings=SETTINGS,
        checkpoint=checkpoint,
        seed=seed,
        extensions=extensions,
    )
    return result, [value.clone() for value in model.state_dict().values()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_contract_covers_every_extension():
    assert set(VARIANTS) == set(EXTENSIONS)


@every_case
def test_a_training_that_is_interrupted_ends_as_one_that_is_not(name, fields, tmp_path):
    """In the middle of an epoch, twice in one epoch, and at its end."""
    extension = EXTENSIONS[name](**fields)
    expected, whole = train([extension])
    stops = 0
    for at in (2, 1, 3, 5):  # of the batches that are trained on; the first STEPS count the classes
        with pytest.raises(KeyboardInterrupt):
            train([extension], at={STEPS + at}, checkpoint=tmp_path / "state.pt")
        stops += 1
    resumed, weights = train([extension], checkpoint=tmp_path / "state.pt")
    assert stops == 4
    assert resumed == expected
    assert equal(weights, whole)


@every_case
def test_the_seed_decides(name, fields):
    first, again, other = (train([EXTENSIONS[name](**fields)], seed=seed)[1] for seed in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


@every_case
def test_one_object_serves_several_trainings(name, fields):
    extension = EXTENSIONS[name](**fields)
    before = copy.deepcopy(vars(extension))
    assert equal(train([extension])[1], train([extension])[1])
    assert vars(extension) == before


@every_case
@pytest.mark.parametrize("fails", [False, True])
def test_around_the_loss_the_model_is_left_as_it_was(name, fields, fails, batch):
    """Weights, buffers, modes and hooks; the gradients are those of the step."""
    model, extension = small_cnn().train(), EXTENSIONS[name](**fields)
    extension.start(model)
    before = snapshot(model)

    def loss():
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    context = pytest.raises(RuntimeError, match="in the step") if fails else contextmanager(lambda: (yield))()
    with context, extension.around_loss(model, loss):
        if fails:
            raise RuntimeError("in the step")
    assert snapshot(model) == before
    extension.after_step(model)
    assert snapshot(model) == before


@every_case
def test_the_state_is_restored(name, fields, batch):
    model, one, other = small_cnn(), EXTENSIONS[name](**fields), EXTENSIONS[name](**fields)
    one.start(model)
    for _ in range(3):
        with torch.no_grad():
            model[0].weight.add_(1.0)
        one.after_step(model)
    other.start(small_cnn(seed=5))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert repr(other.state_dict()) == repr(one.state_dict())


@every_case
def test_it_changes_the_result(name, fields):
    assert not equal(train([])[1], train([EXTENSIONS[name](**fields)])[1])


@dataclasses.dataclass(kw_only=True)
class Nothing(Extension):
    """The methods of the base class."""


@pytest.mark.parametrize("defense", [CE(), MIRST(steps=2, instances=(1, 2), weights=(0.5, 0.5), joint_batch=False)])
def test_an_extension_without_methods_changes_nothing(defense):
    assert equal(train([], defense=defense)[1], train([Nothing()], defense=defense)[1])


def test_extensions_combine_and_their_order_is_part_of_the_checkpoint(tmp_path):
    path = tmp_path / "state.pt"
    expected, whole = train([EMA(decay=0.5), AWP()])
    with pytest.raises(KeyboardInterrupt):
        train([EMA(decay=0.5), AWP()], at={STEPS + 4}, checkpoint=path)
    for others in ([], [AWP(), EMA(decay=0.5)], [EMA(decay=0.6), AWP()]):
        with pytest.raises(MirstError, match="belongs to a run with other settings"):
            train(others, checkpoint=path)
    resumed, weights = train([EMA(decay=0.5), AWP()], checkpoint=path)
    assert resumed == expected
    assert equal(weights, whole)


def test_two_sources_of_evaluation_weights_are_refused():
    with pytest.raises(MirstError, match="EMA and EMA both give weights for evaluation; use one of them"):
        train([EMA(), EMA(decay=0.5)])


class Undecorated(Extension):
    pass


@pytest.mark.parametrize("wrong", [Undecorated(), CE(), "ema"])
def test_what_is_no_extension_gets_a_sentence(wrong):
    with pytest.raises(MirstError, match=f"the extension {type(wrong).__name__} must be a dataclass that derives from"):
        train([wrong])
