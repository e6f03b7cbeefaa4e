import re
import shutil
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from mirst.evaluation import METRICS, classification_metrics
from mirst.nn import read_card
from mirst.study import StudySpec, parse_defense, read_results, train


def front_matter(path):
    _, front, body = path.read_text().split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.fixture(scope="module")
def card(finished):
    return finished / "trials" / "mirst+dm-fold1-seed0" / "MODEL_CARD.md"


def test_the_metadata_hold_the_trials_own_numbers(card, finished):
    front, _ = front_matter(card)
    assert front["library_name"] == "mirst"
    assert front["pipeline_tag"] == "image-classification"
    assert front["license"] == "unknown"  # mirst cannot know that of the weights
    results = read_results(finished)
    rows = results.outcomes
    rows = rows[(rows["defense"] == "mirst") & (rows["fold"] == 1) & (rows["seed"] == 0)]
    (model,) = front["model-index"]
    assert [one["dataset"]["args"]["attack"] for one in model["results"]] == ["none", "fgsm", "pgd"]
    for one in model["results"]:
        own = rows[rows["attack"] == one["dataset"]["args"]["attack"]]
        expected = classification_metrics(
            own["label"], own["prediction"], own["score"], results.classes, results.positive
        )
        assert {m["name"]: m["value"] for m in one["metrics"]} == pytest.approx(expected, abs=1e-6)


def test_the_hub_reads_the_metadata(card):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    data = hub.ModelCard.load(card).data
    assert data.library_name == "mirst"
    assert len(data.eval_results) == 3 * len(METRICS)
    assert {one.metric_type for one in data.eval_results} == {metric.hub for metric in METRICS.values()}


def test_the_text_names_use_data_and_weak_attacks(card):
    _, body = front_matter(card)
    assert "Not a medical device" in body
    assert re.search(r"It was tested on 12 images \(\d+ benign, \d+ malignant\), the test images of fold 1 of 2", body)
    assert "pgd has weak settings: 3 steps of 0.001" in body
    assert "No strong attack was run" in body
    assert "trained with the defense `mirst+dm`" in body


def test_the_text_is_read_as_markdown(card):
    tokens = MarkdownIt("commonmark").enable("table").parse(front_matter(card)[1])
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[1:] == [
        "Intended use", "Model", "Data", "Training", "Evaluation", "Operating threshold", "Limits", "How to load it",
    ]  # fmt: skip
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == 2
    assert kinds.count("tr_open") == (1 + 6) + (1 + 3)
    assert kinds.count("list_item_open") >= 2 + 3


def test_the_code_to_load_it_runs(card, phantoms, tmp_path, monkeypatch, capsys):
    shutil.copy(card.with_name("model.safetensors"), tmp_path)
    shutil.copy(next(Path(phantoms).glob("*/*.png")), tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    _, body = front_matter(card)
    blocks = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["logits"].shape == (1, 2)
    assert re.match(r"(benign|malignant) 0\.\d+", capsys.readouterr().out)


def test_a_model_of_all_the_data_claims_no_test(small_spec, tmp_path):
    train(small_spec, parse_defense("ce"), tmp_path / "plain.safetensors")
    front, body = front_matter(tmp_path / "MODEL_CARD.md")
    assert "model-index" not in front
    assert "There are no test images" in body
    assert 'load_model("plain.safetensors")' in body


def test_a_card_says_how_epoch_and_threshold_were_chosen(small_spec, tmp_path):
    training = {"select": "best_robust_auc", "threshold": {"robust": {"sensitivity": 0.9}}, "label_smoothing": 0.1}
    raw = small_spec.resolved()
    spec = StudySpec.model_validate(raw | {"training": raw["training"] | training})
    result = train(spec, parse_defense("{name: rst, steps: 2}"), tmp_path / "robust.safetensors")
    _, body = front_matter(tmp_path / "MODEL_CARD.md")
    rule = "{robust: {sensitivity: 0.9}}"
    assert result.threshold_rule == read_card(tmp_path / "robust.safetensors").threshold_rule == rule
    assert f"({rule}, chosen on the attacked validation images)" in body
    assert "label smoothing 0.1, seed" in body
    kept = result.history[result.epoch - 1]
    assert f"under PGD with 10 steps, with an AUC of {kept.attacked_auc:.3f}." in body


def test_a_card_of_the_larger_logit_names_no_images(card):
    _, body = front_matter(card)
    assert "if its calibrated probability exceeds 0.500 (argmax)." in body
    assert "label smoothing" not in body
    assert read_card(card.with_name("model.safetensors")).threshold_rule == "argmax"


def test_a_card_names_the_temperature(card):
    temperature = read_card(card.with_name("model.safetensors")).calibration.temperature
    assert f"are calibrated with the temperature {temperature:.3f}, from the" in front_matter(card)[1]
