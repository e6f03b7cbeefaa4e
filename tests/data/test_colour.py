"""Whether images are in colour is decided once for a data set, and holds from the files to the trained model."""

import warnings

import numpy as np
import pytest
from PIL import Image

from mirst.data import images_in_colour, prepare_images, read_dataset, resolved_channels, write_prepared
from mirst.data.colour import channels_remark, is_colour
from mirst.errors import MirstError
from mirst.evaluation import DataWarning
from mirst.evaluation.images_for_model import images_for_model
from mirst.nn import ModelCard, build_model, save_backbone
from mirst.study import load_spec
from mirst.study.identity import holds_study, open_folder
from mirst.study.layout import StudyFolder
from mirst.study.prepared import prepare


def noise(seed, side=80):
    return np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)


def tinted(seed, side=80):
    """A gray texture in the colours of a stained slide."""
    gray = noise(seed, side).astype(float)[..., None] / 255
    return Image.fromarray((255 * (1 - gray * [0.3, 0.7, 0.2])).astype(np.uint8))


@pytest.fixture
def slides(tmp_path):
    """A class folder of 12 images in colour, of 3 classes."""
    for number in range(12):
        path = tmp_path / "slides" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tinted(number, 48).save(path)
    return tmp_path / "slides"


def spec_of(folder, *overrides):
    return load_spec(None, [f"data.path={folder}", "data.positive=a", "data.size=32", "folds.count=2", *overrides])


@pytest.mark.parametrize("quality", [None, 95, 60, 20])
def test_gray_stored_as_colour_is_gray_also_after_jpeg(tmp_path, quality):
    path = tmp_path / ("a.png" if quality is None else "a.jpg")
    options = {} if quality is None else {"quality": quality}
    Image.fromarray(noise(0)).convert("RGB").save(path, **options)
    with Image.open(path) as image:
        assert image.mode == "RGB"
        assert not is_colour(image)


def test_noise_of_the_colour_channels_is_no_colour_and_a_mark_is_none():
    gray = np.stack([noise(0)] * 3, -1).astype(int)
    grain = np.random.default_rng(1).normal(0, 8, gray.shape)
    assert not is_colour(Image.fromarray((gray + grain).clip(0, 255).astype(np.uint8)))
    gray[:8, :8] = [255, 0, 0]  # 1 % of the pixels
    assert not is_colour(Image.fromarray(gray.astype(np.uint8)))
    gray[:24, :24] = [255, 0, 0]
    assert is_colour(Image.fromarray(gray.astype(np.uint8)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_colour_is_found_in_every_mode(mode):
    assert is_colour(tinted(0).convert(mode))


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_gray_modes_are_gray(mode):
    assert not is_colour(tinted(0).convert("L").convert(mode))


def test_most_images_decide_and_a_sentence_says_so():
    assert resolved_channels("auto", [], 0) == 1
    assert [resolved_channels("auto", range(count), 10) for count in (0, 4, 5, 10)] == [1, 1, 3, 3]
    assert channels_remark("auto", range(10), 10) == ["All images are in colour, and the models see 3 channels."]
    assert channels_remark("auto", range(6), 10) == ["6 of 10 images are in colour, and the models see 3 channels."]
    assert "4 of 10 images are in colour, but the models see them in gray; set data.channels to 3" in str(
        channels_remark("auto", range(4), 10)
    )
    assert "set data.channels to auto" in str(channels_remark(1, range(10), 10))
    assert channels_remark(3, range(10), 10) == channels_remark("auto", [], 10) == channels_remark(1, [], 10) == []


def test_a_study_of_slides_sees_colour_and_keeps_the_decision(slides, tmp_path):
    prepared = prepare(spec_of(slides))
    assert prepared.spec.data.channels == 3
    assert prepared.images.pixels.shape == (12, 3, 32, 32)
    assert prepared.classes == ("a", "b", "c")
    assert "All images are in colour, and the models see 3 channels." in prepared.audit.remarks()
    study = StudyFolder(tmp_path / "results")
    open_folder(study, prepared)
    assert "channels: 3" in study.spec.read_text()
    assert holds_study(study, prepare(spec_of(slides)))
    assert holds_study(study, prepare(spec_of(slides, "data.modality=histology")))  # it changes no number
    gray = prepare(spec_of(slides, "data.channels=1"))
    assert gray.images.pixels.shape == (12, 1, 32, 32)
    assert gray.fingerprint != prepared.fingerprint
    with pytest.raises(MirstError, match="the settings of data differ"):
        holds_study(study, gray)
    assert any("but the models see them in gray" in sentence for sentence in gray.audit.remarks())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gray_model_of_slides_gets_a_warning(slides, channels):
    card = ModelCard(
        model="cnn_small",
        drop_max=False,
        channels=channels,
        size=32,
        classes=("a", "b", "c"),
        positive="a",
        threshold=0.0,
        defense="CE()",
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        _, images = images_for_model(build_model("cnn_small", channels, 3).eval(), card, slides)
    assert images[[0]][0].shape == (1, channels, 32, 32)
    told = ["12 of 12 images are in colour, but the model sees them in gray"] if channels == 1 else []
    assert [str(one.message) for one in caught] == told


def test_gray_images_have_one_channel_and_no_remark(phantoms):
    prepared = prepare(load_spec(None, [f"data.path={phantoms}", "data.size=32", "folds.count=2"]))
    assert prepared.spec.data.channels == 1
    assert prepared.images.pixels.shape[1] == 1
    assert not any("colour" in sentence for sentence in prepared.audit.summary())
    assert "modality" not in prepared.spec.resolved()["data"]


@pytest.mark.parametrize("channels", ["auto", 1, 3])
def test_a_prepared_folder_is_seen_as_it_was_prepared(slides, tmp_path, channels):
    records = read_dataset(slides)
    assert images_in_colour([record.file for record in records]) == list(range(12))
    there = write_prepared(records, tmp_path / "away", 32, channels)
    prepared = prepare(spec_of(there))
    assert prepared.spec.data.channels == (1 if channels == 1 else 3)
    expected = prepare_images([record.file for record in records], 32, prepared.spec.data.channels).pixels
    assert np.array_equal(prepared.images.pixels, expected)


def test_weights_of_gray_images_do_not_fit_colour_ones(slides, tmp_path):
    save_backbone(tmp_path / "gray.safetensors", build_model("resnet_tiny", 1, 2))
    with pytest.raises(MirstError) as caught:
        prepare(spec_of(slides, f"model.weights={tmp_path / 'gray.safetensors'}"))
    assert str(caught.value) == (
        f"model.weights: {tmp_path / 'gray.safetensors'} was trained on images of 1 channel, but the images of this "
        "study have 3; set data.channels to 1, or give other weights"
    )
    save_backbone(tmp_path / "colour.safetensors", build_model("resnet_tiny", 3, 2))
    with pytest.raises(MirstError, match="of 3 channels, but the images of this study have 1; set"):
        prepare(spec_of(slides, f"model.weights={tmp_path / 'colour.safetensors'}", "data.channels=1"))


@pytest.mark.parametrize("text", ["2", "gray", "true", "'3'", "null"])
def test_other_channels_get_a_sentence(text):
    with pytest.raises(MirstError, match="channels"):
        load_spec(None, [f"data.channels={text}"])


@pytest.mark.parametrize("text", ["x-ray", "3", "[ct]", "''"])
def test_an_unknown_modality_gets_a_sentence(text):
    with pytest.raises(MirstError, match=r"data\.modality"):
        load_spec(None, [f"data.modality={text}"])
