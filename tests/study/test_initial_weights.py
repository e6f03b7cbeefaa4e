"""A defense may draw initial weights of its own; a study asks it to, unless the weights come from a file."""

from dataclasses import dataclass

import pytest
import torch

from mirst.defenses import CE, IBP, DefenseWrapper
from mirst.nn import save_backbone
from mirst.nn.interval_initialisation import initialise_for_intervals
from mirst.study import load_spec
from mirst.study.initial_model import initial_model
from mirst.study.named_configs import defense_entry
from mirst.study.prepared import prepare
from mirst.study.train_model import train_model


@dataclass(frozen=True, kw_only=True)
class Wrapped(DefenseWrapper):
    inner: IBP = IBP()  # noqa: RUF009 - frozen

    def __call__(self, model, x, y, *, generator=None):
        return self.inner(model, x, y, generator=generator)


@pytest.fixture(scope="module")
def spec(small_yaml, phantoms):
    return load_spec(
        small_yaml,
        [
            *(f"data.path={phantoms}", "data.channels=1", "model.name=cnn_small"),
            *("training.augment=false", "training.epochs=3"),
        ],
    )


def weights(model):
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def same(one, other):
    return torch.equal(weights(one), weights(other))


def test_a_study_draws_the_weights_that_the_defense_needs(spec):
    plain, _ = initial_model(spec, 2, False, 5)
    for defense in (IBP(), Wrapped()):
        drawn, _ = initial_model(spec, 2, False, 5, defense=defense)
        again, _ = initial_model(spec, 2, False, 5, defense=defense)
        other, _ = initial_model(spec, 2, False, 6, defense=defense)
        assert same(drawn, again)
        assert not same(drawn, other)
        assert not same(drawn, plain)
        assert torch.equal(drawn.network.fc.weight, plain.network.fc.weight)
    for defense in (CE(), None):
        assert same(initial_model(spec, 2, False, 5, defense=defense)[0], plain)


def test_weights_from_a_file_are_kept(spec, tmp_path):
    backbone, _ = initial_model(spec, 2, False, 1)
    save_backbone(tmp_path / "backbone.safetensors", backbone)
    named = spec.model.model_copy(update={"weights": str(tmp_path / "backbone.safetensors")})
    drawn, _ = initial_model(spec.model_copy(update={"model": named}), 2, False, 5, defense=IBP())
    assert torch.equal(drawn.network.stem[0].weight, backbone.network.stem[0].weight)


@pytest.mark.parametrize("name", ["ibp", "crownibp", "sabr", "mtlibp"])
def test_a_training_that_was_stopped_ends_as_one_that_was_not(name, spec, tmp_path):
    entry, prepared = defense_entry({"name": name, "eps": "2/255"}), prepare(spec)
    fold = prepared.folds[0]

    class Stop(Exception):
        pass

    def stop(epoch):
        if epoch.number == 2:
            raise Stop

    whole, result = train_model(entry, prepared, fold.train, 0, tmp_path / "whole", lambda _: None)
    with pytest.raises(Stop):
        train_model(entry, prepared, fold.train, 0, tmp_path / "parts", stop)
    resumed, _ = train_model(entry, prepared, fold.train, 0, tmp_path / "parts", lambda _: None)
    assert same(resumed, whole)
    assert len(result.history) == 3


def test_the_last_layer_keeps_its_weights():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    before = model[1].weight.clone()
    initialise_for_intervals(model)
    assert torch.equal(model[1].weight, before)
