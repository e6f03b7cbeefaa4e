import hashlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mirst.data import write_phantoms
from mirst.defenses import RST
from mirst.errors import Diverged, MirstError
from mirst.nn import build_model, load_backbone, save_backbone
from mirst.study import load_spec, pretrain, probe, read_results, run_study
from mirst.study.prepared import prepare
from tests import helpers

QUICK = ["training.epochs=3", "training.batch_size=12", "data.size=32"]


@pytest.mark.parametrize("method", ["simclr", "supervised"])
def test_a_backbone_is_written_and_started_from(method, phantoms, tmp_path):
    out, seen = tmp_path / "backbone.safetensors", []
    pretrain(method, [phantoms], load_spec(None, QUICK), out, seen.append)
    assert [epoch.number for epoch in seen] == [1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    model = build_model("resnet_tiny", 1, 2)
    loaded = load_backbone(model, out)
    assert loaded.matched == loaded.of
    assert loaded.unused == ()


def test_simclr_ignores_labels_and_supervised_does_not(phantoms, tmp_path):
    """The same images under other class names and a shuffled assignment."""
    other = tmp_path / "other"
    for number, path in enumerate(sorted(phantoms.glob("*/*.png"))):
        target = other / ("odd" if number % 2 else "even") / f"{number:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    order = sorted(other.glob("*/*.png"))
    (tmp_path / "same").mkdir()
    for label in ("even", "odd"):
        (tmp_path / "same" / label).mkdir()
    # the reader sorts by class, then name: give both sets the same order with different labels
    for number, path in enumerate(order):
        label = "even" if number < 6 else "odd"
        (tmp_path / "same" / label / f"{number:03d}.png").write_bytes(path.read_bytes())

    def digest(method, folder):
        out = tmp_path / f"{method}-{folder.name}.safetensors"
        pretrain(method, [folder], load_spec(None, [*QUICK, "training.class_weights=none"]), out)
        return {name: helpers.digest(tensor) for name, tensor in load_file(out).items()}

    assert digest("simclr", other) == digest("simclr", tmp_path / "same")
    assert digest("supervised", other) != digest("supervised", tmp_path / "same")


def test_a_stopped_pretraining_goes_on(phantoms, tmp_path):
    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    spec = load_spec(None, QUICK)
    pretrain("simclr", [phantoms], spec, tmp_path / "whole.safetensors")
    with pytest.raises(KeyboardInterrupt):
        pretrain("simclr", [phantoms], spec, tmp_path / "cut.safetensors", stop)
    seen = []
    pretrain("simclr", [phantoms], spec, tmp_path / "cut.safetensors", seen.append)
    assert [epoch.number for epoch in seen] == [3]
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_probe_tells_a_good_backbone_from_a_random_one(tmp_path):
    """Classes that differ in the position of a bright spot; the backbone was trained to see it."""
    rng = np.random.default_rng(0)
    for label, column in (("benign", 8), ("malignant", 24)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 120, (32, 32), dtype=np.uint8)
            pixels[12:18, column - 2 : column + 2] += 60
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    out = tmp_path / "backbone.safetensors"
    overrides = [f"data.path={tmp_path / 'data'}", "data.size=32", "folds.count=4"]
    settings = ["training.epochs=12", "training.augment=false", *overrides]
    pretrain("supervised", [tmp_path / "data"], load_spec(None, settings), out)
    table = probe(load_spec(None, [*overrides, f"model.weights={out}"]))
    auc = table.groupby("weights")["auc"].mean()
    assert len(table) == 8
    assert auc[str(out)] > 0.95
    assert auc[str(out)] > auc["random"] + 0.05


def test_a_study_says_what_it_starts_from_and_refuses_other_weights(small_yaml, phantoms, tmp_path):
    weights = tmp_path / "backbone.safetensors"
    pretrain("supervised", [phantoms], load_spec(None, QUICK), weights)
    overrides = [f"data.path={phantoms}", f"model.weights={weights}", "defenses=[ce]", "seeds=[0]", "training.epochs=1"]
    spec, plans = load_spec(small_yaml, overrides), []
    run_study(spec, tmp_path / "out", on_plan=plans.append)
    assert plans[0].weights.matched == plans[0].weights.of
    run = read_results(tmp_path / "out").run
    assert run["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    pretrain("supervised", [phantoms], load_spec(None, [*QUICK, "seeds=[1]"]), weights)
    with pytest.raises(MirstError, match="contains this study with other initial weights"):
        run_study(spec, tmp_path / "out")


def test_what_it_refuses(phantoms, tmp_path):
    with pytest.raises(MirstError, match="no last layer fc"):
        pretrain("simclr", [phantoms], load_spec(None, [f"model.name={__name__}:headless"]), tmp_path / "x")
    with pytest.raises(Diverged):
        pretrain("simclr", [phantoms], load_spec(None, [*QUICK, "training.lr=1e30"]), tmp_path / "x")
    with pytest.raises(MirstError, match="does not exist"):
        pretrain("simclr", [tmp_path / "missing"], load_spec(None, QUICK), tmp_path / "x")


def headless(in_channels, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))


def test_a_study_says_what_its_backbone_was_pretrained_on_and_names_images_that_it_shares(phantoms, tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    write_phantoms(other, 6, seed=5)
    shutil.copytree(phantoms, own)
    shutil.copy(own / "benign" / "phantom-001.png", other / "benign" / "copy.png")
    weights = tmp_path / "w.safetensors"
    pretrain("supervised", [other], load_spec(None, QUICK), weights, defense=RST(steps=2))
    notes = prepare(load_spec(None, [*QUICK, f"data.path={own}", f"model.weights={weights}"])).audit.notes
    assert any("pretrained on 13 images of other with RST(" in note for note in notes)
    assert any("it saw the whole image, letterboxed" in note for note in notes)
    assert any(
        "WARNING: 1 of the 24 images of the study are among those that the backbone was pretrained on: "
        "benign/phantom-001.png" in note
        for note in notes
    )
    (own / "benign" / "phantom-001.png").unlink()
    notes = prepare(load_spec(None, [*QUICK, f"data.path={own}", f"model.weights={weights}"])).audit.notes
    assert any("No image file of the study is among them" in note for note in notes)


def test_damaged_metadata_of_a_backbone_get_a_sentence(phantoms, tmp_path):
    weights = tmp_path / "w.safetensors"
    save_backbone(weights, build_model("resnet_tiny", 1, 2), {"mirst_pretraining": '{"objective": 3}'})
    with pytest.raises(MirstError, match=r"model\.weights: the metadata of .*w\.safetensors are damaged"):
        prepare(load_spec(None, [*QUICK, f"data.path={phantoms}", f"model.weights={weights}"]))


def test_simclr_takes_no_defense(phantoms, tmp_path):
    with pytest.raises(MirstError, match="simclr has an objective of its own"):
        pretrain("simclr", [phantoms], load_spec(None, QUICK), tmp_path / "x", defense=RST())
