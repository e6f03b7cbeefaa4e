"""The served page, as clients reach it."""

import importlib
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mirst.app.explore import ExploredModel, open_explored_model
from mirst.app.explorer import Explorer
from mirst.app.probabilities import class_set, cut, in_every_set, probabilities
from mirst.app.training_images import NO_STUDY, TRAINED
from mirst.calibration import Calibration
from mirst.data import Box, box_of, read_dataset
from mirst.errors import MirstError
from mirst.evaluation.predictions import images_for
from tests import helpers
from tests.commands import started
from tests.helpers import small_cnn

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="mirst[app] is not installed")


@pytest.fixture
def page():
    """The module, which imports gradio for 3 s: only the process that runs this file does."""
    return importlib.import_module("mirst.app.page")


@pytest.fixture
def box_controls():
    return importlib.import_module("mirst.app.box_controls")


@pytest.fixture(scope="module")
def explorer(finished, phantoms):
    names = ("ce-fold0-seed0", "mirst+dm-fold0-seed0")
    subjects = [open_explored_model(finished / "trials" / name / "model.safetensors") for name in names]
    return Explorer(subjects, read_dataset(phantoms))


def test_many_visitors_at_once_each_see_their_own_picture(explorer):
    """The models are shared: what one visitor gets must not depend on the others."""

    def visit(number):
        chosen = explorer.pick(number)
        return chosen.name, chosen.smallest, explorer.attack(chosen, "PGD", 5, 5)

    numbers = [0, 13, 20] * 2
    alone = {number: visit(number) for number in set(numbers)}
    with ThreadPoolExecutor(6) as visitors:
        for number, (name, smallest, views) in zip(numbers, visitors.map(visit, numbers), strict=True):
            assert (name, smallest) == alone[number][:2]
            for one, other in zip(views, alone[number][2], strict=True):
                assert (one.attacked == other.attacked).all()
                assert one.probabilities == other.probabilities


def test_it_opens_with_an_image_that_all_models_predict_correctly(explorer):
    opening = explorer.opening()
    views = explorer.attack(opening, "PGD", 0, 1)
    assert {seen.predictions[0] for seen in views} == {opening.truth}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MirstError("<b>no</b> picture"), "&lt;b&gt;no&lt;/b&gt; picture"),
        (RuntimeError("secret /etc/path"), "The computation failed; try another image or another attack."),
    ],
)
def test_failures_become_a_sentence_instead_of_a_result(error, sentence, page):
    def fail():
        raise error

    assert page.answered(fail, page.refusal) == f'<h2>No result</h2><p role="alert">{sentence}</p>'


def test_the_page_says_what_is_wrong_and_the_smallest_eps_that_was_seen(explorer, page):
    chosen = explorer.pick(0)._replace(name="<b>a</b>", truth="malignant", smallest=[None, 0.001 / 255])
    chosen = chosen._replace(certified=[3.499 / 255, None])
    views = explorer.attack(chosen, "PGD", 16, 20)
    turned = [replace(seen, predictions=("benign", "malignant"), distance=7.001 / 255) for seen in views]
    html = page.render(chosen, turned)
    assert "&lt;b&gt;a&lt;/b&gt;, labelled malignant" in html
    assert html.count("The prediction is wrong without any attack") == 2
    assert re.findall(r"at most [\d.]+/255", html) == ["at most 7.01/255", "at most 3.4/255", "at most 0.01/255"]
    assert "no change of at most 3.4/255 per pixel can change this prediction" in html
    assert html.count("Certificate") == 2
    assert html.count("not available for this network") == 1
    assert "none for this image" in page.render(chosen._replace(certified=[0.0, None]), turned)
    assert html.count('class="verdict changed"') == 2
    assert "misled" not in html
    assert html.count("to the label malignant") == 2
    stays = [replace(seen, predictions=("malignant", "malignant")) for seen in views]
    html = page.render(chosen, stays)
    assert "wrong without any attack" not in html
    assert "none found up to 16/255" in html


def test_only_a_correct_prediction_that_becomes_wrong_is_alarming(explorer, page):
    chosen = explorer.pick(0)
    views = explorer.attack(chosen, "PGD", 0, 1)
    turned = [replace(view, predictions=("malignant", "benign")) for view in views]
    for truth, kind in (("malignant", "misled"), ("benign", "changed"), (None, "changed"), ("other", "changed")):
        html = page.render(chosen._replace(truth=truth), turned)
        assert html.count(f'class="verdict {kind}"') == 2
        assert ("✗" in html) == (kind == "misled")


def test_the_page_warns_of_images_that_a_model_was_trained_on(explorer, page):
    chosen = explorer.pick(0)
    views = explorer.attack(chosen, "PGD", 0, 1)
    html = page.render(chosen._replace(seen=[TRAINED, NO_STUDY.seen(chosen.image)]), views)
    assert html.count('class="verdict warned"') == 1
    assert f"⚠ {TRAINED.sentence}" in html
    assert (
        html.count("It is unknown whether this model was trained on this image: the model is not in the results") == 1
    )


def test_a_colour_model_of_three_classes_without_a_positive_one(masked_phantoms, page):
    """No word of a lesion; the probabilities and the set of classes are those of `mirst predict`."""
    names = ("a", "b", "c")
    rng = np.random.default_rng(0)
    calibration = Calibration.of(rng.normal(0, 2, (60, 3)), [0, 1, 2] * 20, list(map(str, range(60))))
    card = replace(WHOLE, channels=3, classes=names, positive=None, calibration=calibration)
    model = small_cnn(3, 3).eval()
    record = read_dataset(masked_phantoms)[0]
    explorer = Explorer([ExploredModel("colour", model, card)], [record])
    chosen = explorer.opening()
    (view,) = explorer.attack(chosen, "PGD", 5, 3)
    with torch.no_grad():
        logits = model(images_for(card, [record.file], [None])).double().numpy()
    expected = np.exp(logits[0] / calibration.temperature)
    assert list(view.probabilities[0].values()) == pytest.approx(expected / expected.sum(), abs=1e-6)
    assert view.class_set == tuple(np.array(names)[calibration.sets(logits, 0.9)[0]])
    html = page.render(chosen, [view])
    assert re.findall("Calibrated probability of (.)<", html) == list(names)
    assert f"Set of classes before the attack: <strong>{', '.join(view.class_set) or 'empty'}<" in html
    assert "lesion" not in html
    assert view.clean.shape[2] == 3


def test_the_mark_is_the_threshold_in_calibrated_probabilities():
    calibration = Calibration(temperature=2.0, scores=((0.5,), (0.5,)), sizes=((1,), (1,)))
    card = replace(WHOLE, threshold=1.0, calibration=calibration)
    logits = torch.tensor([[0.0, 1.0]])
    assert probabilities(card, logits)["malignant"] == pytest.approx(cut(card))
    assert cut(replace(card, calibration=None)) == pytest.approx(1 / (1 + np.exp(-1)))
    assert in_every_set(card) == ("benign", "malignant") == class_set(card, logits)


WHOLE = replace(helpers.CARD, drop_max=False, size=16)
LESION = replace(WHOLE, view="lesion")


@pytest.fixture(scope="module")
def two_views(masked_phantoms):
    """A model of whole images, and one of crops around lesions."""
    models = [ExploredModel("whole", small_cnn().eval(), WHOLE), ExploredModel("crops", small_cnn().eval(), LESION)]
    return Explorer(models, read_dataset(masked_phantoms))


def test_a_mask_beside_an_image_gives_its_box(two_views, page, box_controls):
    chosen = two_views.pick(0)
    assert chosen.box == box_of(two_views.records[0])._replace(frame=None)
    assert chosen.box_source == "The box goes around the mask phantom-001.png."
    html = page.render(chosen, two_views.attack(chosen, "PGD", 5, 3))
    assert html.count("<figcaption>Image<br>") == html.count("<figcaption>Crop<br>") == 1
    assert html.count("Takes a square around the box of the lesion, 30 % wider on each side.") == 1
    picture, _, *edges = box_controls.shown_box(chosen)
    assert edges == list(chosen.box[:4])
    assert f'x="{chosen.box.x0}" y="{chosen.box.y0}"' in picture
    assert 'viewBox="0 0 128 96"' in picture


def test_a_box_of_the_data_set_is_named_and_one_outside_of_the_image_gets_a_sentence(two_views):
    records = [replace(two_views.records[0], box=box) for box in (Box(10, 20, 50, 60), Box(500, 0, 600, 50))]
    explorer = Explorer(two_views.models, records)
    assert explorer.pick(0).box_source == "The box comes from the data set."
    with pytest.raises(
        MirstError, match=r"phantom-001\.png: the box 500,0,600,50 covers less than a pixel of the 128 x 96 image"
    ):
        explorer.pick(1)


def test_without_a_box_the_model_of_crops_classifies_nothing(two_views, masked_phantoms, tmp_path, page, box_controls):
    sent = tmp_path / "sent.png"
    sent.write_bytes((masked_phantoms / "benign" / "phantom-001.png").read_bytes())
    chosen = two_views.upload(sent)
    assert chosen.box is None
    views = two_views.attack(chosen, "PGD", 5, 3)
    assert [view.seen for view in views] == [True, False]
    html = page.render(chosen, views)
    assert html.count("<section") == 2
    assert html.count("Nothing is classified:</strong> draw the box of the lesion.") == 1
    assert "No box was drawn: draw the box of the lesion." in box_controls.picture_with_box(chosen)
    assert box_controls.shown_box(chosen)[2:] == [None] * 4
    boxed = two_views.with_box(chosen, [30, 20.5, 80, 70])
    assert boxed.box == Box(30, 20.5, 80, 70)
    assert boxed.box_source == "You gave the box."
    assert all(view.seen for view in two_views.attack(boxed, "PGD", 5, 3))


def test_without_a_box_a_model_that_saw_whole_images_says_that_it_sees_one(masked_phantoms, tmp_path, page):
    sent = tmp_path / "sent.png"
    sent.write_bytes((masked_phantoms / "benign" / "phantom-001.png").read_bytes())
    model = ExploredModel("crops", small_cnn().eval(), replace(LESION, without_box="whole"))
    explorer = Explorer([model], read_dataset(masked_phantoms))
    without, boxed = explorer.upload(sent), explorer.pick(0)
    said = "The image has no box, so the model sees the whole image"
    html = page.render(without, explorer.attack(without, "PGD", 5, 3))
    assert said in html
    assert html.count("<figcaption>Image<br>") == 1
    assert said not in page.render(boxed, explorer.attack(boxed, "PGD", 5, 3))


@pytest.mark.parametrize(
    ("edges", "sentence"),
    [
        ([30, 20, None, 70], "A box has four edges; enter all of them."),
        ([80, 20, 30, 70], "is not a box; give x0,y0,x1,y1"),
        ([float("nan"), 20, 30, 70], "is not a box"),
        (["left", 20, 30, 70], "is not a box"),
        ([30, 20, 80], "is not a box"),
        ([300, 20, 400, 70], "covers less than a pixel of the 128 x 96 image"),
    ],
)
def test_what_is_no_box_gets_a_sentence(two_views, edges, sentence):
    with pytest.raises(MirstError, match=re.escape(sentence)):
        two_views.with_box(two_views.pick(0), edges)


def test_a_port_in_use_gets_a_sentence(finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        checkpoint = finished / "trials" / "ce-fold0-seed0" / "model.safetensors"
        command = started("app", checkpoint, "--port", port)
        _, err = command.communicate()
    assert command.returncode == 2
    assert re.fullmatch(rf"mirst: cannot serve on 127.0.0.1:{port}; give another --port or --host\n", err)
