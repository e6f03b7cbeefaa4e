"""Folders for the Hugging Face Hub, as its own library reads them. Its `validate` needs a network."""

import json
import shutil

import pytest
import torch

from mirst.errors import MirstError
from mirst.evaluation import METRICS
from mirst.export import export_model
from mirst.nn import load_model, read_card

hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")


@pytest.fixture
def checkpoint(finished, tmp_path):
    """Under another name than in a study."""
    trial = finished / "trials" / "mirst+dm-fold1-seed0"
    shutil.copy(trial / "model.safetensors", tmp_path / "mine.safetensors")
    text = (trial / "MODEL_CARD.md").read_text().replace("model.safetensors", "mine.safetensors")
    (tmp_path / "MODEL_CARD.md").write_text(text)
    return tmp_path / "mine.safetensors"


@pytest.mark.parametrize(("license", "expected"), [(None, "unknown"), ("cc-by-nc-4.0", "cc-by-nc-4.0")])
def test_the_hubs_library_reads_every_required_entry(checkpoint, tmp_path, license, expected):
    out = export_model(checkpoint, "hub-folder", tmp_path / "out", license=license)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    metadata = hub.metadata_load(out / "README.md")
    data = hub.ModelCardData(**metadata)  # raises where model-index is incomplete
    assert (data.license, data.pipeline_tag, data.library_name) == (expected, "image-classification", "mirst")
    assert len(data.eval_results) == 3 * len(METRICS)
    assert all(one.dataset_type and one.dataset_name and one.metric_value is not None for one in data.eval_results)
    written = hub.ModelCard.load(out / "README.md")
    assert written.data.to_dict()["model-index"] == metadata["model-index"]
    assert "mine.safetensors" not in written.text
    assert 'load_model("model.safetensors")' in written.text


def test_the_folder_loads_back(checkpoint, tmp_path):
    out = export_model(checkpoint, "hub-folder", tmp_path / "out")
    (model, card), (own, expected) = load_model(out / "model.safetensors"), load_model(checkpoint)
    assert card == expected
    x = torch.rand(2, card.channels, card.size, card.size)
    with torch.no_grad():
        assert torch.equal(model(x), own(x))
    config = json.loads((out / "config.json").read_text())
    assert (config["library_name"], config["model"], config["classes"]) == ("mirst", card.model, list(card.classes))


def test_what_cannot_be_exported_gets_one_sentence_and_leaves_no_folder(checkpoint, tmp_path):
    out = tmp_path / "out"
    for arguments, words in (
        ({"to": "hub-folder", "license": "Apache 2"}, "--license is Apache 2; give an identifier of the hub"),
        ({"to": "safetensors", "license": "mit"}, "--license is for --to hub-folder; leave it out"),
    ):
        with pytest.raises(MirstError, match=words):
            export_model(checkpoint, out=out, **arguments)
    for content, words in ((b"# A card", "does not begin with metadata"), (b"\xff", "needs .*MODEL_CARD.md")):
        checkpoint.with_name("MODEL_CARD.md").write_bytes(content)
        with pytest.raises(MirstError, match=words):
            export_model(checkpoint, "hub-folder", out)
    checkpoint.with_name("MODEL_CARD.md").unlink()
    with pytest.raises(MirstError, match=r"needs .*MODEL_CARD\.md, which mirst writes beside a checkpoint"):
        export_model(checkpoint, "hub-folder", out)
    assert not out.exists()
    assert read_card(checkpoint)
