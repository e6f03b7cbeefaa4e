"""Studies of lesions: view, boxes, extra training images."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from mirst.data import Augmentation, CarriedImages, read_dataset
from mirst.errors import MirstError
from mirst.evaluation.baselines import fit_baseline
from mirst.nn import build_model, load_model, read_card, save_backbone, save_model
from mirst.study import Local, load_spec, misplace_boxes, run_study
from mirst.study.baselines import baseline_rows, misplaced_rows
from mirst.study.engines.base import Job
from mirst.study.engines.ray import shipment_of
from mirst.study.layout import StudyFolder
from mirst.study.prepared import prepare, training_shares
from mirst.study.pretraining_origin import PretrainingOrigin
from mirst.study.spec import StudySpec
from mirst.study.train_model import train_model
from mirst.study.train_trial import TrainTrial
from tests.data.helpers import write_dicom
from tests.helpers import boxed_phantoms


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


def test_extra_data_of_other_classes_get_a_sentence(lesions, others):
    labels = "{benign: cyst, malignant: cancer}"
    with pytest.raises(MirstError, match=r"data\.extra: .* has no image of the classes benign, malignant; rename"):
        prepare(spec_of(lesions, f"data.extra=[{{path: {others}, source: others, labels: {labels}}}]"))


@pytest.mark.parametrize(
    ("labels", "images", "remark"),
    [
        ("{benign: null, malignant: malignant}", 5, None),
        ("{benign: cyst, malignant: malignant}", 5, "5 images are left out, as the study has no such class: cyst (5)."),
    ],
)
def test_extra_images_of_one_class_train_and_those_of_other_classes_are_counted(
    lesions, others, labels, images, remark
):
    prepared = prepare(spec_of(lesions, f"data.extra=[{{path: {others}, source: others, labels: {labels}}}]"))
    extra = prepared.records[len(prepared.records) - prepared.extra :]
    assert [(record.source, record.label) for record in extra] == [("others", "malignant")] * images
    notes = [note for note in prepared.audit.notes if str(others) in note]
    assert notes == ([] if remark is None else [f"{others}: {remark}"])


def test_extra_data_in_a_folder_of_one_class_train(lesions, others, tmp_path):
    shutil.copytree(others.parent / "malignant", tmp_path / "others" / "malignant")
    prepared = prepare(spec_of(lesions, "data.view=whole", f"data.extra=[{{path: {tmp_path / 'others'}}}]"))
    assert prepared.extra == 5


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("{benign: null, malignant: null}", "labels leaves no image of"),
        ("{benign: benign}", "labels does not contain malignant of"),
    ],
)
def test_extra_data_whose_labels_keep_nothing_get_a_sentence(lesions, others, labels, words):
    with pytest.raises(MirstError, match=words):
        prepare(spec_of(lesions, f"data.extra=[{{path: {others}, source: others, labels: {labels}}}]"))


def test_extra_data_without_boxes_get_a_sentence(lesions, others):
    with pytest.raises(MirstError, match=r"data\.without_box leave no image of others; leave it out of data\.extra"):
        prepare(spec_of(lesions, f"data.extra=[{{path: {others.parent}, source: others}}]"))


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


@pytest.mark.parametrize("rule", ["youden", "{sensitivity: 0.95}", "{robust: youden}"])
def test_the_threshold_depends_on_no_label_and_no_pixel_of_the_test_fold(lesions, tmp_path, rule):
    spec = spec_of(
        *(lesions, "defenses=[{name: rst, steps: 2}]", "training.epochs=1"),
        *(f"training.threshold={rule}", "training.val_fraction=0.4"),
    )
    prepared = prepare(spec)
    train, test = prepared.folds[0].train, prepared.folds[0].test

    def threshold(changed, name):
        labels, pixels = prepared.labels.copy(), prepared.images.pixels.copy()
        labels[changed], pixels[changed] = 1 - labels[changed], 255 - pixels[changed]
        other = replace(prepared, labels=labels, images=CarriedImages(pixels, prepared.box_features))
        _, result = train_model(spec.defenses[0], other, train, 0, tmp_path / name, lambda _: None)
        return result.threshold

    usual = threshold([], "usual")
    assert usual != 0
    assert threshold(test, "test") == usual
    assert threshold(training_shares(prepared, train)[1], "validation") != usual


@pytest.fixture(scope="module")
def finished_lesions(lesions, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    spec = spec_of(lesions, "training.epochs=2", "defenses=[ce, rst]", "attacks=[fgsm]", "model.box=fused")
    run_study(spec, out, engine=Local(2))
    return out


def test_misplaced_boxes_of_a_study(finished_lesions, mirst):
    code, text, _ = mirst("evaluate", finished_lesions, "--suite", "boxes")
    assert code == 0
    assert "worst per image" in text
    rows = pd.read_csv(finished_lesions / "boxes.csv")
    assert len(rows) == 4 * (1 + 3 * 82)
    outcomes = pd.read_csv(finished_lesions / "outcomes.csv")
    for (name, number), part in rows[rows["placement"] == "true"].groupby(["defense", "fold"]):
        own = outcomes[(outcomes["defense"] == name) & (outcomes["fold"] == number) & (outcomes["attack"] == "none")]
        assert part["accuracy"].item() == pytest.approx((own["label"] == own["prediction"]).mean())
    page = (finished_lesions / "report.html").read_text()
    assert "F1 score with misplaced boxes" in page
    assert '<th scope="col">thumbnail+box (baseline)</th>' in page[page.index("F1 score with misplaced boxes") :]


def test_baselines_with_misplaced_boxes(lesions):
    prepared = prepare(spec_of(lesions))
    prepared, features = replace(prepared, folds=prepared.folds[1:]), prepared.box_features
    rows, clean = misplaced_rows(prepared, features), baseline_rows(prepared, features, [])
    assert len(rows) == 6 * (1 + 3 * 82)
    true = rows[rows["placement"] == "true"].set_index(["defense", "fold"])["accuracy"]
    right = (clean["label"] == clean["prediction"]).groupby([clean["defense"], clean["fold"]]).mean()
    assert true.to_dict() == right.to_dict()
    assert rows.query("defense == 'constant'")["accuracy"].nunique() == 1
    moved = rows.query("placement == 'moved'")
    assert moved.query("defense == 'thumbnail'")["accuracy"].nunique() > 1
    fold, images = prepared.folds[0], np.zeros((len(features), 1, 8, 8))
    malignant = prepared.labels == prepared.positive_index
    fitted = fit_baseline(images[fold.train], features[fold.train], malignant[fold.train], thumbnail=False, box=True)
    own = moved.query("defense == 'box'")
    for row in own.itertuples():
        wider, higher = np.log(1 + row.scale_x), np.log(1 + row.scale_y)
        score = fitted.score(images[fold.test], features[fold.test] + [higher - wider, higher + wider])
        assert row.accuracy == np.mean((score > 0) == malignant[fold.test])
    assert own["accuracy"].nunique() > 1


def test_misplaced_boxes_of_one_model(finished_lesions, lesions, mirst, tmp_path):
    model = finished_lesions / "trials" / "rst-fold0-seed0" / "model.safetensors"
    code, text, _ = mirst("evaluate", model, "--data", lesions, "--suite", "boxes", "--out", tmp_path / "rows")
    assert code == 0
    assert "worst" in text
    assert len(pd.read_csv(tmp_path / "rows" / "boxes.csv")) == 1 + 3 * 82


def test_a_study_of_whole_images_has_no_boxes(finished, mirst):
    code, _, error = mirst("evaluate", finished, "--suite", "boxes")
    assert code == 2
    assert "is a study of whole images, so there is no box to misplace" in error


def test_predictions_need_the_box_of_the_lesion(finished_lesions, lesions, mirst, tmp_path):
    model = finished_lesions / "trials" / "rst-fold0-seed0" / "model.safetensors"
    image = next(r for r in read_dataset(lesions) if r.box)
    code, _, error = mirst("predict", model, image.path)
    assert code == 2
    assert "takes crops around lesions, and there is no box for" in error
    box = ",".join(f"{edge:g}" for edge in image.box[:4])
    code, text, _ = mirst("predict", model, image.path, "--box", box)
    assert code == 0
    left, top, right, bottom = (int(edge) for edge in image.box[:4])
    mask = Image.new("L", (128, 96))
    mask.paste(255, (left, top, right, bottom))
    mask.save(tmp_path / "mask.png")
    assert mirst("predict", model, image.path, "--mask", tmp_path / "mask.png")[:2] == (0, text)
    outcomes = pd.read_csv(finished_lesions / "outcomes.csv").query("defense == 'rst' and attack == 'none'")
    tested = outcomes[outcomes["fold"] == 0].iloc[0]
    one = next(r for r in read_dataset(lesions) if r.name == tested["image"])
    _, text, _ = mirst("predict", model, one.path, "--box", ",".join(f"{edge:g}" for edge in one.box[:4]))
    assert f": {tested['prediction']} (" in text


@pytest.mark.parametrize(("without_box", "words"), [("drop", "is left out"), ("whole", "is shown whole")])
def test_a_checkpoint_does_with_an_image_without_a_box_what_its_study_did(
    finished_lesions, lesions, mirst, tmp_path, without_box, words
):
    model, card = load_model(finished_lesions / "trials" / "rst-fold0-seed0" / "model.safetensors")
    save_model(tmp_path / "model.safetensors", model, replace(card, without_box=without_box))
    code, text, _ = mirst(
        *("evaluate", tmp_path / "model.safetensors", "--data", lesions),
        *("--attack", "fgsm", "--out", tmp_path / "rows"),
    )
    assert code == 0
    assert f"1 image has no box and {words}: benign/phantom-002.png" in text
    rows = pd.read_csv(tmp_path / "rows" / "outcomes.csv").query("attack == 'none'").set_index("image")
    assert ("benign/phantom-002.png" in rows.index) == (without_box == "whole")
    bare = lesions.parent / "benign" / "phantom-002.png"
    code, text, error = mirst("predict", tmp_path / "model.safetensors", bare)
    assert code == (0 if without_box == "whole" else 2)
    assert ("is shown whole" in error) == (without_box == "whole")
    if without_box == "whole":
        assert f": {rows['prediction']['benign/phantom-002.png']} (" in text


def test_the_crops_travel_to_other_machines(lesions, tmp_path):
    prepared = prepare(spec_of(lesions))
    job = Job(TrainTrial(), prepared, StudyFolder(tmp_path))
    carried = pickle.loads(pickle.dumps(shipment_of(job))).prepared  # noqa: S301 (our own bytes)
    everything = list(range(len(prepared.records)))
    ours, theirs = (one.subset(np.arange(len(everything)))[everything][0] for one in (prepared, carried))
    assert theirs.shape == (23, 1, 32, 32)
    assert torch.equal(ours, theirs)


def test_one_box_is_that_of_all_frames_of_a_file(finished_lesions, mirst, tmp_path):
    model = finished_lesions / "trials" / "rst-fold0-seed0" / "model.safetensors"
    frames = np.random.default_rng(0).integers(0, 255, (2, 40, 50), dtype=np.uint8)
    write_dicom(tmp_path / "loop.dcm", frames)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    code, text, error = mirst("predict", model, tmp_path / "loop.dcm", "--box", "5,6,30,30", "--csv", "-")
    assert code == 0
    assert "the 2 frames of" in error
    pages = [mirst("predict", model, tmp_path / f"{n}.png", "--box", "5,6,30,30", "--csv", "-")[1] for n in (0, 1)]
    wanted = [page.splitlines()[1].split(",")[1:] for page in pages]
    found = [line.split(",")[1:] for line in text.splitlines()[1:]]
    assert len(found) == len(wanted) == 2
    for row, alone in zip(found, wanted, strict=True):  # a batch of two rounds differently on some processors
        assert row[0] == alone[0]
        assert [float(p) for p in row[1:]] == pytest.approx([float(p) for p in alone[1:]], abs=1e-6)
    code, _, error = mirst("predict", model, tmp_path / "0.png", tmp_path / "1.png", "--box", "5,6,30,30")
    assert code == 2
    assert "one box is given for 2 image files" in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--box", "1,2,3"], "is not a box"),
        (["--box", "900,900,950,950"], "covers less than a pixel of the 128 x 96 image"),
        (["--box", "1,1,5,5", "--mask", "m.png"], "--box and --mask both give the box"),
        (["--mask", "missing.png"], "missing.png is not a file"),
    ],
)
def test_a_bad_box_gets_a_sentence(finished_lesions, lesions, mirst, options, words):
    model = finished_lesions / "trials" / "rst-fold0-seed0" / "model.safetensors"
    code, _, error = mirst("predict", model, read_dataset(lesions)[0].path, *options)
    assert code == 2
    assert words in error


def test_a_model_of_whole_images_takes_no_box(finished, phantoms, mirst):
    model = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
    code, _, error = mirst("predict", model, read_dataset(phantoms)[0].path, "--box", "1,1,9,9")
    assert code == 2
    assert "takes whole images, so a box changes nothing" in error


def test_a_study_of_lesions_runs_and_its_models_know_their_view(lesions, others, tmp_path):
    spec = spec_of(
        lesions,
        "data.margin=0.25",
        "data.without_box=whole",
        "training.epochs=2",
        "training.augment={rotation: 10, box: 0.1}",
        "defenses=[rst]",
        "attacks=[fgsm]",
        f"data.extra=[{{path: {others}, source: others}}]",
    )
    run_study(spec, tmp_path / "out")
    first = (tmp_path / "out" / "outcomes.csv").read_bytes()
    card = read_card(tmp_path / "out" / "trials" / "rst-fold0-seed0" / "model.safetensors")
    assert (card.view, card.margin, card.without_box) == ("lesion", 0.25, "whole")
    assert b"others" not in first
    clean = pd.read_csv(tmp_path / "out" / "outcomes.csv").query("attack == 'none'")
    assert len(clean) == 24
    moved = pd.read_csv(misplace_boxes(tmp_path / "out")).query("placement == 'true'")
    right = (clean["label"] == clean["prediction"]).groupby(clean["fold"]).mean()
    assert moved["accuracy"].tolist() == right.tolist()
    run_study(spec, tmp_path / "again")
    assert (tmp_path / "again" / "outcomes.csv").read_bytes() == first
    other = replace(spec.training, epochs=3)
    with pytest.raises(MirstError, match="settings of training differ"):
        run_study(spec.model_copy(update={"training": other}), tmp_path / "out")
    with pytest.raises(MirstError, match="settings of data differ"):
        run_study(spec_of(lesions, "training.epochs=2", "defenses=[rst]", "attacks=[fgsm]"), tmp_path / "out")


def test_extra_images_that_the_backbone_was_pretrained_on_are_no_leak(lesions, others, tmp_path):
    spec, weights = spec_of(lesions, f"data.extra=[{{path: {others}, source: others}}]"), tmp_path / "b.safetensors"
    for seen, leaks in ((others, False), (lesions, True)):
        origin = PretrainingOrigin.of("CE()", spec, read_dataset(seen))
        save_backbone(weights, build_model("resnet_tiny", 1, 2, False), origin.metadata())
        prepared = prepare(spec.model_copy(update={"model": spec.model.model_copy(update={"weights": str(weights)})}))
        assert any("that the backbone was pretrained on" in note for note in prepared.audit.notes) == leaks
