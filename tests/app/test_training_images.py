"""What the explorer says of an image that a model was trained on."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mirst.app.training_images import NO_STUDY, TEST, TRAINED, VALIDATED, trainings_of
from mirst.data import decode, make_phantom, read_dataset


def checkpoint(folder, fold):
    return folder / "trials" / f"ce-fold{fold}-seed0" / "model.safetensors"


@pytest.fixture(scope="module")
def both(finished, phantoms):
    """What is known of the models of both folds."""
    told = []
    found = trainings_of([checkpoint(finished, 0), checkpoint(finished, 1)], None, told.append)
    assert len(told) == 1  # the images are read once
    return found


def test_every_image_is_a_test_image_of_one_fold_and_trained_or_validated_the_other(both, finished, phantoms):
    rows = pd.read_csv(finished / "outcomes.csv").drop_duplicates(["image", "fold"])
    fold_of = dict(zip(rows["image"], rows["fold"], strict=True))
    others = []
    for record in read_dataset(phantoms):
        image = decode(record.file, 3)
        own = fold_of[record.name]
        assert both[own].seen(image) == TEST
        others.append(both[1 - own].seen(image))
    assert set(others) == {TRAINED, VALIDATED}
    assert others.count(TRAINED) > others.count(VALIDATED)


def test_copies_are_recognised_and_other_images_are_not(both, phantoms):
    trained = next(
        image
        for image in (decode(record.file, 3) for record in read_dataset(phantoms))
        if both[0].seen(image) == TRAINED
    )
    jpeg = io.BytesIO()
    trained.convert("L").save(jpeg, "JPEG", quality=70)
    width, height = trained.size
    for copy in (Image.open(jpeg), trained.resize((2 * width, 2 * height)), trained.transpose(Image.FLIP_LEFT_RIGHT)):
        assert both[0].seen(copy) == TRAINED
    other = make_phantom(True, np.random.default_rng(99))
    assert both[0].seen(Image.fromarray(other)).kind == "new"


def test_what_is_unknown_is_said(finished, phantoms, tmp_path):
    told = []
    lone = tmp_path / "model.safetensors"
    shutil.copy(checkpoint(finished, 0), lone)
    assert trainings_of([lone], None, told.append) == [NO_STUDY]
    assert told == []
    moved = shutil.copytree(finished, tmp_path / "moved")
    spec = (moved / "study.yaml").read_text().replace(str(phantoms), str(tmp_path / "gone"))
    (moved / "study.yaml").write_text(spec)
    image = decode(read_dataset(phantoms)[0].file, 3)
    (unknown,) = trainings_of([checkpoint(moved, 0)], None, told.append)
    assert unknown.seen(image).kind == "unknown"
    assert "are not found; give their folder with --data" in told[-1]
    assert str(tmp_path) not in unknown.seen(image).sentence
    (known,) = trainings_of([checkpoint(moved, 0)], phantoms, told.append)
    assert known.seen(image).kind != "unknown"
