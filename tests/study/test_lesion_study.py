"""Studies of lesions: view, boxes, extra training images."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from mirst.data import Augmentation, read_dataset, write_phantoms
from mirst.errors import MirstError
from mirst.nn import read_card
from mirst.study import load_spec, run_study
from mirst.study.prepared import prepare, training_shares
from mirst.study.spec import StudySpec


def boxed_phantoms(folder, count, seed=0, without=()):
    """A manifest of phantoms; the boxes differ."""
    write_phantoms(folder, count, seed)
    rows = ["path,label,x0,y0,x1,y1"]
    for number, record in enumerate(read_dataset(folder)):
        box = (
            "" if record.name in without else f"{20 + number % 9},{15 + number % 7},{70 + number % 5},{70 + number % 4}"
        )
        rows.append(f"{record.name},{record.label},{box or ',,,'}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return folder / "list.csv"


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    return boxed_phantoms(tmp_path_factory.mktemp("lesions"), 12, without=("benign/phantom-002.png",))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    return boxed_phantoms(tmp_path_factory.mktemp("others"), 5, seed=7)


def spec_of(lesions, *settings):
    return load_spec(None, [f"data.path={lesions}", "data.size=32", "data.view=lesion", "folds.count=2", *settings])


def test_the_images_are_crops_and_an_image_without_a_box_is_left_out_or_shown_whole(lesions):
    dropped, kept = prepare(spec_of(lesions)), prepare(spec_of(lesions, "data.without_box=whole"))
    assert (len(dropped.records), len(kept.records)) == (23, 24)
    assert any("1 image has no box and is left out: benign/phantom-002.png" in note for note in dropped.audit.notes)
    assert any("is shown whole" in note for note in kept.audit.notes)
    x, _ = dropped.subset(np.arange(3))[[0, 1, 2]]
    assert x.shape == (3, 1, 32, 32)
    assert np.isnan(kept.box_features).any(1).sum() == 1


def test_view_margin_and_boxes_are_in_the_fingerprint(lesions, tmp_path):
    moved = tmp_path / "list.csv"
    text = lesions.read_text().replace("path,label", "path,label", 1).splitlines()
    first = text[1].split(",")
    moved.write_text("\n".join([text[0], ",".join([*first[:-1], "66"]), *text[2:]]))
    for record in read_dataset(lesions):
        (tmp_path / record.name).parent.mkdir(exist_ok=True)
        Image.open(record.path).save(tmp_path / record.name)
    prints = {
        prepare(spec).fingerprint
        for spec in (
            spec_of(lesions),
            spec_of(lesions, "data.view=whole"),
            spec_of(lesions, "data.margin=0.5"),
            spec_of(lesions, "data.without_box=whole"),
            spec_of(moved),
        )
    }
    assert len(prints) == 5


def test_extra_images_only_train(lesions, others):
    prepared = prepare(spec_of(lesions, f"data.extra=[{{path: {others}, source: others}}]"))
    alone = prepare(spec_of(lesions))
    assert prepared.extra == 10
    assert [r.source for r in prepared.records] == [alone.records[0].source] * 23 + ["others"] * 10
    assert prepared.fingerprint != alone.fingerprint
    for fold, own in zip(prepared.folds, alone.folds, strict=True):
        assert fold.test.tolist() == own.test.tolist()
        assert fold.train.tolist() == [*own.train, *range(23, 33)]
        train, val = training_shares(prepared, fold.train)
        assert set(val) <= set(range(23))
        assert set(range(23, 33)) <= set(train)
        assert val.tolist() == training_shares(alone, own.train)[1].tolist()


def test_an_extra_image_that_is_in_the_study_never_trains_for_the_fold_that_tests_it(lesions):
    spec = spec_of(lesions, f"data.extra=[{{path: {lesions}, source: again}}]")
    prepared = prepare(spec)
    own = len(prepared.records) - prepared.extra
    assert prepared.extra == own == 23
    for fold in prepared.folds:
        tested = {prepared.records[i].name for i in fold.test}
        trained = {prepared.records[i].name for i in fold.train}
        assert tested
        assert trained
        assert not tested & trained
        train, val = training_shares(prepared, fold.train)
        assert not {prepared.records[i].name for i in val} & {prepared.records[i].name for i in train}


def test_extra_data_of_the_same_name_get_a_sentence(lesions):
    with pytest.raises(MirstError, match="two data sets have the name"):
        prepare(spec_of(lesions, f"data.extra=[{{path: {lesions}}}]"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.view=lesions"], "data.view"),
        (["data.margin=-1"], "data.margin"),
        (["data.margin=nan"], "data.margin"),
        (["data.without_box=keep"], "data.without_box"),
        (["training.augment={rotate: 3}"], r"training.*unknown option rotate; did you mean rotation"),
        (["training.augment={rotation: 300}"], r"training\.augment: rotation is 300.*between 0 and 180"),
        (["training.augment={rotation: true}"], "rotation is true; it must not be true or false"),
        (["training.augment=3"], "give true, false, or options"),
        (["training.augment={box: 0.1}", "data.view=whole"], r"augment\.box moves boxes, and data\.view is whole"),
    ],
)
def test_settings_that_make_no_sense_get_a_sentence(lesions, settings, words):
    with pytest.raises(MirstError, match=words):
        spec_of(lesions, *settings)


def test_augmentation_is_read_back_from_the_resolved_study():
    spec = load_spec(None, ["data.view=lesion", "training.augment={rotation: 10, box: 0.1}"])
    assert spec.training.augmentation == Augmentation(rotation=10, box=0.1)
    resolved = yaml.safe_load(yaml.safe_dump(spec.resolved()))
    assert StudySpec.model_validate(resolved).training == spec.training


def test_a_study_of_lesions_runs_and_its_models_know_their_view(lesions, others, tmp_path):
    spec = spec_of(
        lesions,
        "data.margin=0.25",
        "training.epochs=2",
        "training.augment={rotation: 10, box: 0.1}",
        "defenses=[rst]",
        "attacks=[fgsm]",
        f"data.extra=[{{path: {others}, source: others}}]",
    )
    run_study(spec, tmp_path / "out")
    first = (tmp_path / "out" / "outcomes.csv").read_bytes()
    card = read_card(tmp_path / "out" / "trials" / "rst-fold0-seed0" / "model.safetensors")
    assert (card.view, card.margin) == ("lesion", 0.25)
    assert b"others" not in first
    run_study(spec, tmp_path / "again")
    assert (tmp_path / "again" / "outcomes.csv").read_bytes() == first
    other = replace(spec.training, epochs=3)
    with pytest.raises(MirstError, match="settings of training differ"):
        run_study(spec.model_copy(update={"training": other}), tmp_path / "out")
    with pytest.raises(MirstError, match="settings of data differ"):
        run_study(spec_of(lesions, "training.epochs=2", "defenses=[rst]", "attacks=[fgsm]"), tmp_path / "out")
