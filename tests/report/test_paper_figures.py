import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from mirst.attacks import FGSM, PGD
from mirst.errors import MirstError
from mirst.nn import BoxFusion, ModelCard, build_model, drop_max2d, replace_first_max_pool, save_model
from mirst.report import attacks_figure, read_figure_input, residuals_figure, save_figure, write_report
from mirst.report.paper_figures import FigureInput, residual_maps
from mirst.report.residuals import residuals_of
from mirst.study import read_results
from tests.helpers import CARD, small_cnn, with_boxes


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    card = ModelCard(
        model="resnet_tiny", drop_max=True, channels=1, size=32, classes=("benign", "malignant"),
        positive="malignant", threshold=0.5, defense="CE()",
    )  # fmt: skip
    save_model(tmp_path / "m.safetensors", build_model("resnet_tiny", 1, 2, drop_max=True), card)
    return tmp_path / "m.safetensors"


@pytest.fixture
def image(phantoms):
    return phantoms / "malignant" / "phantom-001.png"


@pytest.mark.parametrize("drop_max", [False, True])
def test_residual_maps_are_the_change_behind_both_poolings(drop_max):
    """Whatever pool the model has, both maps come from the same activations before it."""
    first = nn.Conv2d(1, 3, 3, padding=1)
    model = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.LazyLinear(2))
    model(torch.rand(1, 1, 12, 12))
    if drop_max:
        replace_first_max_pool(model)
    clean, attacked = torch.rand(2, 1, 12, 12), torch.rand(2, 1, 12, 12)
    maps = residual_maps(model, clean, attacked)
    with torch.no_grad():
        a, b = first(clean).relu(), first(attacked).relu()
    assert torch.equal(maps["max-pool"], (F.max_pool2d(a, 3, 2, 1) - F.max_pool2d(b, 3, 2, 1)).sum(1))
    assert torch.equal(maps["drop-max"], (drop_max2d(a, 3, 2, 1) - drop_max2d(b, 3, 2, 1)).sum(1))
    with pytest.raises(MirstError, match="no max-pool or drop-max"):
        residual_maps(nn.Flatten(), clean, attacked)


@pytest.mark.parametrize("channels", [1, 3])
def test_figures_of_a_fused_model_show_its_images(channels, tmp_path):
    x, y = with_boxes(torch.rand(1, channels, 16, 16), torch.tensor([1]))
    model = BoxFusion(replace_first_max_pool(small_cnn(channels)), positive=1).eval()
    card = replace(CARD, channels=channels, box="fused", bound=1.5)
    given = FigureInput(model, card, x, y)
    for number, figure in enumerate((attacks_figure(given, {"pgd": PGD()}), residuals_figure(given, PGD(), "pgd"))):
        save_figure(figure, tmp_path / f"{number}.png")
        shown = [image.get_array().shape for axes in figure.axes for image in axes.get_images()]
        assert ((16, 16) if channels == 1 else (16, 16, 3)) in shown
        assert not {shape[-1] for shape in shown} & {2, 4}
    assert residual_maps(model, x, x + 0.1)["max-pool"].any()


def texts(path):
    return " ".join(re.findall(r"<!-- (.*?) -->", path.read_text()))


def test_figure_1_shows_every_attack(checkpoint, image, tmp_path):
    given = read_figure_input(checkpoint, image, "malignant")
    out = save_figure(attacks_figure(given, {"fgsm": FGSM(), "pgd": PGD()}), tmp_path / "f.svg")
    assert "fgsm" in texts(out)
    assert texts(out).count("perturbation") == 2
    assert texts(out).count("→") == 3
    save_figure(attacks_figure(given, {"pgd": PGD()}), tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as figure:
        assert figure.width > 300


def test_figure_2_shows_both_poolings_on_one_scale(checkpoint, image, tmp_path):
    figure = residuals_figure(read_figure_input(checkpoint, image), PGD(), "pgd")
    shown = [axes.images[0] for axes in figure.axes if axes.images and axes.get_title().startswith(("max", "drop"))]
    assert len(shown) == 2
    assert shown[0].get_clim() == shown[1].get_clim()
    low, high = shown[0].get_clim()
    assert low == -high == -max(np.abs(one.get_array()).max() for one in shown)
    save_figure(figure, tmp_path / "f.svg")


def test_the_prediction_is_that_of_the_operating_point(checkpoint, image):
    given = read_figure_input(checkpoint, image)
    with torch.no_grad():
        benign, malignant = given.model(given.x)[0].tolist()
    odds = malignant - benign
    assert given.prediction(given.x) == f"→ {'malignant' if odds > 0.5 else 'benign'} ({odds:+.2f})"
    assert int(given.y) == int(malignant > benign)


def test_what_it_refuses(checkpoint, image, tmp_path):
    with pytest.raises(MirstError, match="cyst is not a class"):
        read_figure_input(checkpoint, image, "cyst")
    with pytest.raises(MirstError, match=r"neither \.png nor \.svg"):
        save_figure(attacks_figure(read_figure_input(checkpoint, image), {}), tmp_path / "f.pdf")
    assert not (tmp_path / "f.pdf").exists()


def test_the_report_holds_the_maps_of_every_defense(finished):
    results = read_results(finished)
    page = write_report(finished).read_text()
    for entry in results.spec.defenses:
        found = residuals_of(results, entry)
        assert [set(one.maps) for one in found] == [{"max-pool", "drop-max"}] * 2
        assert all(picture in page for one in found for picture in (one.clean, one.attacked, *one.maps.values()))
