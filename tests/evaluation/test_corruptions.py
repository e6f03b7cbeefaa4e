from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mirst.data import load_images, read_dataset
from mirst.errors import MirstError
from mirst.evaluation import (
    CORRUPTIONS,
    SEVERITIES,
    corrupt,
    corruption_set,
    corruptions_of,
    evaluate_corruptions,
)
from mirst.evaluation.corruptions import SETS, set_in_words, set_of
from tests.helpers import asked, fused, small_cnn, with_boxes

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


RANDOM = {
    *("speckle", "shadow", "reverberation", "time gain", "rotation", "noise", "speckle noise", "shot noise"),
    *("impulse noise", "motion", "hair", "bubble", "stain deposit", "stain", "illumination", "halo", "spots"),
    *("rician noise", "bias field", "ghosting", "k-space motion", "spike", "rings", "streaks"),
}
BLEEDS = {"rotation", "blur axial", "blur", "defocus", "motion", "zoom", "pixelation", "jpeg"}
"""Corruptions that move gray levels over the edge of the content."""


@pytest.fixture(scope="module")
def images(phantoms):
    pixels = load_images([record.file for record in read_dataset(phantoms)][:6], 64)
    return torch.from_numpy(pixels).float() / 255


@pytest.fixture(scope="module")
def coloured():
    """Smooth images of many colours, of three shapes."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.nn.functional.interpolate(torch.rand(4, 3, 5, 5, generator=generator), size=size, mode="bilinear")
        for size in ((16, 16), (33, 33), (24, 40))
    ]


def run(x, name, severity, seed=0):
    return corrupt(x, name, severity, torch.Generator().manual_seed(seed))


@every_corruption
def test_results_are_images_and_the_input_is_untouched(name, images, coloured):
    for x in (images, *coloured, *(many[:, :1] for many in coloured)):
        before = x.clone()
        for severity in SEVERITIES:
            y = run(x, name, severity)
            assert y.shape == x.shape
            assert y.dtype == x.dtype
            assert y.isfinite().all()
            assert y.min() >= 0
            assert y.max() <= 1
        assert torch.equal(y, x) == (name == "saturation" and x.shape[1] == 1)
        assert torch.equal(x, before)


@every_corruption
def test_severity_grows(name, images, coloured):
    for x in (images, *coloured):
        distance = [(run(x, name, s) - x).abs().mean().item() for s in (0, *SEVERITIES)]
        assert distance[0] == 0
        assert distance == sorted(distance)


@every_corruption
def test_the_seed_decides(name, coloured):
    x = coloured[1]
    assert torch.equal(run(x, name, 3, seed=1), run(x, name, 3, seed=1))
    assert torch.equal(run(x, name, 3, seed=1), run(x, name, 3, seed=2)) == (name not in RANDOM)


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n not in BLEEDS])
def test_the_letterbox_stays_black(name, images):
    border = images.flatten(0, 2).reshape(6, 64, 64).amax((0, 2)) == 0
    assert border.sum() > 10
    assert run(images, name, 5)[:, :, border].max() == 0


def test_known_values():
    ramp = torch.linspace(0.2, 0.8, 64).expand(1, 1, 64, 64).contiguous()
    torch.testing.assert_close(run(ramp, "gain up", 2), (ramp + 0.12).clamp(0, 1))
    torch.testing.assert_close(run(ramp, "gain down", 2), ramp - 0.12)
    torch.testing.assert_close(run(ramp, "contrast", 3), 0.5 + 0.5 * (ramp - 0.5))
    torch.testing.assert_close(run(ramp, "clipping", 2), ((ramp - 0.1) / 0.8).clamp(0, 1))
    torch.testing.assert_close(run(ramp, "blur axial", 5), ramp)  # constant along the beam
    assert not torch.allclose(run(ramp, "blur lateral", 5), ramp, atol=1e-3)
    tilted = run(ramp, "time gain", 3) - ramp
    assert abs(tilted[0, 0, 0, 32].item()) == pytest.approx(0.15, abs=1e-6)
    torch.testing.assert_close(tilted[0, 0, 0, 32], -tilted[0, 0, -1, 32])


def test_an_impulse_is_blurred_into_a_gaussian():
    x = torch.zeros(1, 1, 65, 64)
    x[0, 0, 32, 32] = 1
    column = run(x, "blur axial", 3)[0, 0, :, 32]
    at = torch.arange(65) - 32.0
    expected = torch.exp(-0.5 * (at / (1.2 * 65 / 64)) ** 2)
    torch.testing.assert_close(column, expected / expected.sum(), atol=2e-4, rtol=0)


def test_one_row_per_corruption_and_severity(images):
    data = DataLoader(TensorDataset(images, torch.arange(6) % 2), batch_size=4)
    table = evaluate_corruptions(small_cnn().eval(), data, ("a", "b"), "b")
    assert len(table) == 1 + 5 * len(SETS["ultrasound"])
    assert list(table.columns[:4]) == ["corruption", "severity", "f1", "sensitivity"]
    assert table.equals(evaluate_corruptions(small_cnn().eval(), data, ("a", "b"), "b"))
    assert np.isfinite(table["accuracy"]).all()


def test_corruptions_leave_the_box_of_a_fused_model_alone(images):
    """Nothing that the model was called on has another box, and the pixels are those of a model without one."""
    y = torch.arange(6) % 2
    x, _ = with_boxes(images, y)
    model = fused().eval()
    with asked(model) as batches:
        evaluate_corruptions(model, [(x, y)], ("a", "b"), "b", check=False)
    whole = [batch for batch in batches if len(batch) == 6]
    assert len(whole) == 1 + 5 * len(SETS["ultrasound"])
    assert all(torch.equal(batch[:, 1:], x[:, 1:]) for batch in whole)
    expected = [images, *(run(images, name, severity) for name in SETS["ultrasound"] for severity in SEVERITIES)]
    assert all(torch.equal(batch[:, :1], own) for batch, own in zip(whole, expected, strict=True))


def test_known_values_in_colour():
    x = torch.tensor([0.8, 0.5, 0.2]).view(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous()
    torch.testing.assert_close(run(x, "saturation", 1)[0, :, 5, 5], torch.tensor([0.86, 0.5, 0.14]))
    torch.testing.assert_close(run(x, "brightness up", 2), x * 1.2)
    torch.testing.assert_close(run(x, "gamma up", 3), x**1.5)
    torch.testing.assert_close(run(x, "contrast up", 2), (0.5 + 1.3 * (x - 0.5)).clamp(0, 1))
    hairy = run(x, "hair", 3) - x
    assert hairy[:, 0].min() < -0.5  # of red, which hair lacks most
    assert (hairy.abs().amax(1) < 0.01).float().mean() > 0.5
    for name in ("defocus", "motion", "zoom", "blur", "pixelation", "ghosting"):
        torch.testing.assert_close(run(x, name, 5), x, atol=1e-4, rtol=0)  # nothing to blur, and no ghost


def test_a_ghost_is_a_copy_a_third_of_the_image_away():
    x = torch.full((1, 1, 63, 63), 0.5)
    x[:, :, 10:14, 30:34] = 1
    ghosts = (run(x, "ghosting", 5) - x)[0, 0, :, 31].abs()
    assert set((ghosts > 0.05).nonzero().flatten().tolist()) == {*range(10, 14), *range(31, 35), *range(52, 56)}


def test_a_stain_keeps_white_white_and_moves_densities_by_at_most_the_strength():
    white = torch.ones(1, 3, 16, 16)
    torch.testing.assert_close(run(white, "stain", 5), white)
    gray = torch.full((8, 1, 16, 16), 0.25)
    density = -run(gray, "stain", 5)[:, 0, 0, 0].log() / -torch.log(torch.tensor(0.25))
    assert {round(share.item(), 3) for share in density} == {0.5, 1.5}


@pytest.mark.parametrize("modality", SETS)
def test_a_modality_has_its_own_known_set(modality):
    names = corruptions_of(modality, 3)
    assert len(set(names)) == len(names) >= 8
    assert set(names) <= set(CORRUPTIONS)
    for channels in (1, 3):
        assert set_of(["none", *corruptions_of(modality, channels)]) == modality
    assert "saturation" not in corruptions_of(modality, 1)
    assert set_in_words(modality, 1) == f"Corruptions: those of {modality}."


def test_every_corruption_belongs_to_a_modality():
    assert {name for names in SETS.values() for name in names} == set(CORRUPTIONS)
    assert set_of(["none", "rain"]) is None


def test_without_a_modality_the_channels_decide_and_a_sentence_says_so():
    assert (corruption_set(None, 1), corruption_set(None, 3)) == ("ultrasound", "general")
    assert "those of general, since data.modality is not set and the images are in colour" in set_in_words(None, 3)
    assert "choose others with --modality (xray, dermoscopy" in set_in_words(None, 1)
    with pytest.raises(MirstError, match=r"unknown modality x-ray; did you mean xray\?"):
        corruption_set("x-ray", 1)


def test_colour_images_get_the_corruptions_of_their_modality(coloured):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2)).eval()
    data = [(coloured[0], torch.tensor([0, 1, 0, 1]))]
    table = evaluate_corruptions(model, data, ("a", "b"), "b", modality="histology", check=False)
    assert list(table["corruption"].unique()) == ["none", *SETS["histology"]]


def test_unknown_names_and_severities_get_a_sentence(images):
    with pytest.raises(MirstError, match="unknown corruption rain"):
        run(images, "rain", 1)
    with pytest.raises(MirstError, match="severity is 6"):
        run(images, "jpeg", 6)


def test_the_documentation_defines_every_corruption_with_its_strengths_and_every_set():
    text = (Path(__file__).parents[2] / "docs" / "corruptions.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    defined = {
        row[0]: [float(number) for number in row[2].removeprefix("s = ").split()]
        for row in cells
        if len(row) == 3 and row[0] in CORRUPTIONS
    }
    assert defined == {name: [abs(strength) for strength in strengths] for name, (_, strengths) in CORRUPTIONS.items()}
    listed = {row[0].split(" (")[0]: tuple(row[1].split(", ")) for row in cells if len(row) == 2}
    assert {name: listed[name] for name in SETS} == SETS
