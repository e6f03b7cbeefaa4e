"""A study of a network of another library, from its settings to predictions."""

import pytest

from mirst.errors import MirstError
from mirst.evaluation import predict
from mirst.nn import read_card
from mirst.study import StudySpec, load_spec, parse_defense, train
from mirst.study.spec import packages_of

NAME = "monai:DenseNet121"
OPTIONS = {"init_features": 8, "growth_rate": 4, "block_config": [1, 1, 1, 1], "dropout_prob": 0.1}


def test_options_are_written_only_if_there_are_any():
    spec = load_spec(None, [f"model.name={NAME}", "model.options={init_features: 8, block_config: [1, 1]}"])
    assert spec.resolved()["model"]["options"] == {"init_features": 8, "block_config": [1, 1]}
    assert StudySpec.model_validate(spec.resolved()) == spec
    assert spec.model.network == f"{NAME} (init_features=8, block_config=[1, 1])"
    assert "options" not in StudySpec().resolved()["model"]
    assert packages_of(spec) == []


@pytest.mark.parametrize("options", ["{a: {b: 1}}", "3", "{a: .nan}", "{a: [[[1]]]}", "[1]"])
def test_options_are_plain_values(options):
    with pytest.raises(MirstError, match=r"model\.options") as caught:
        load_spec(None, [f"model.name={NAME}", f"model.options={options}"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_trained_network_predicts(small_spec, phantoms, tmp_path):
    raw = small_spec.resolved()
    settings = raw | {
        "model": {"name": NAME, "options": OPTIONS},
        "training": raw["training"] | {"epochs": 1, "select": "last"},
    }
    path = tmp_path / "model.safetensors"
    train(StudySpec.model_validate(settings), parse_defense("ce", drop_max=True), path)
    assert read_card(path).options == OPTIONS
    card, predictions = predict(path, [phantoms], NAME)
    assert len(predictions) == 24
    text = (tmp_path / "MODEL_CARD.md").read_text()
    assert f"{card.network} with drop-max" in text
    assert f'trusted="{NAME}"' in text
