import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mirst.errors import MirstError
from mirst.nn import BoxFusion, box_code, box_features, load_model, save_model
from mirst.study import load_spec
from mirst.study.box_regression import box_regression, fit_box
from mirst.study.identity import same_trials
from mirst.study.initial_model import initial_model
from mirst.study.layout import StudyFolder
from mirst.study.named_configs import defense_entry
from mirst.study.prepared import prepare, training_shares
from mirst.study.spec_sections import ModelSpec
from mirst.study.train_model import model_card, train_model
from tests.helpers import boxed_phantoms, small_cnn


def drawn(count, seed=0):
    draws = np.random.default_rng(seed)
    positive = draws.random(count) < 0.3
    features = np.stack([draws.normal(-0.4 + 0.3 * positive, 0.3), draws.normal(-3 + positive, 0.8)], axis=1)
    return features, positive


def test_the_fusion_has_the_log_odds_of_scikit_learns_pipeline():
    features, positive = drawn(200)
    model = BoxFusion(small_cnn(), positive=1)
    model.set_box(fit_box(features, positive))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced")).fit(features, positive)
    found = model.box_logit(*box_features(box_code(features, 32)))
    np.testing.assert_allclose(found.numpy(), pipeline.decision_function(features), atol=2e-3)
    unknown = model.box_logit(*box_features(box_code(np.full((1, 2), np.nan), 32)))
    assert unknown.item() == pytest.approx(pipeline[-1].intercept_[0], abs=1e-3)


def test_images_without_a_box_do_not_count():
    features, positive = drawn(50)
    more = np.vstack([features, np.full((20, 2), np.nan)])
    assert fit_box(more, np.append(positive, [True] * 20)) == fit_box(features, positive)


def test_boxes_of_one_class_get_a_sentence():
    features, positive = drawn(50)
    features[positive] = np.nan
    with pytest.raises(MirstError, match="needs boxes of both classes in every training fold, but 0 of the"):
        fit_box(features, positive)


@pytest.fixture(scope="module")
def fused_spec(small_yaml, tmp_path_factory):
    lesions = boxed_phantoms(tmp_path_factory.mktemp("lesions"), 12)
    overrides = [f"data.path={lesions}", "data.view=lesion", "model.box=fused", "data.positive=benign"]
    return load_spec(small_yaml, [*overrides, "data.channels=1", "training.augment=false", "training.epochs=2"])


@pytest.fixture(scope="module")
def prepared(fused_spec):
    return prepare(fused_spec)


def test_a_training_fits_the_box_on_its_own_images_alone(prepared, tmp_path):
    fold, entry = prepared.folds[0], defense_entry("rst")
    own, held_out = training_shares(prepared, fold.train)
    assert len(held_out)
    model, result = train_model(entry, prepared, fold.train, 0, tmp_path / "state", lambda _: None)
    expected = fit_box(prepared.box_features[own], prepared.labels[own] == prepared.positive_index)
    assert box_regression(prepared, own) == expected
    assert model.box_weight.tolist() == pytest.approx(expected.weight, rel=1e-6)
    assert model.positive == prepared.positive_index == 0
    assert model.pixel_var != 1
    card = model_card(entry, prepared, result)
    assert (card.box, card.bound, card.inputs) == ("fused", 1.5, 2)
    save_model(tmp_path / "m.safetensors", model, card)
    loaded, _ = load_model(tmp_path / "m.safetensors")
    x, _ = prepared.subset(fold.test)[[0, 1, 2]]
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model.eval()(x))


def test_three_classes_get_a_sentence(fused_spec):
    with pytest.raises(MirstError, match=r"model\.box: fused needs two classes, but there are 3"):
        initial_model(fused_spec, 3, False, 0, positive=0)


def test_the_weights_of_the_pixels_are_those_without_a_box(fused_spec):
    fused, _ = initial_model(fused_spec, 2, False, 0, positive=1)
    plain, _ = initial_model(fused_spec, 2, False, 0)
    assert isinstance(fused, BoxFusion)
    state = plain.state_dict()
    assert len(state) > 10
    assert all(torch.equal(value, state[name]) for name, value in fused.pixels.state_dict().items())


def test_box_and_bound_are_settings_of_the_model(finished, small_spec):
    study, plain = StudyFolder(finished), prepare(small_spec)
    assert same_trials(study, plain)
    for model in ({"box": "fused"}, {"box": "fused", "bound": 2.0}):
        spec = small_spec.model_copy(update={"model": ModelSpec.model_validate(model)})
        assert not same_trials(study, dataclasses.replace(plain, spec=spec))
