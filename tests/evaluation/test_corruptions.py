import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mirst.data import load_images, read_dataset
from mirst.errors import MirstError
from mirst.evaluation import CORRUPTIONS, SEVERITIES, corrupt, evaluate_corruptions
from tests.helpers import asked, fused, small_cnn, with_boxes

every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)


@pytest.fixture(scope="module")
def images(phantoms):
    pixels = load_images([record.file for record in read_dataset(phantoms)][:6], 64)
    return torch.from_numpy(pixels).float() / 255


def run(x, name, severity, seed=0):
    return corrupt(x, name, severity, torch.Generator().manual_seed(seed))


@every_corruption
def test_results_are_images_and_the_input_is_untouched(name, images):
    before = images.clone()
    for severity in SEVERITIES:
        y = run(images, name, severity)
        assert y.shape == images.shape
        assert y.dtype == images.dtype
        assert y.isfinite().all()
        assert y.min() >= 0
        assert y.max() <= 1
        assert not torch.equal(y, images)
    assert torch.equal(images, before)


@every_corruption
def test_severity_grows(name, images):
    distance = [(run(images, name, s) - images).abs().mean().item() for s in (0, *SEVERITIES)]
    assert distance[0] == 0
    assert distance == sorted(distance)


@every_corruption
def test_the_seed_decides(name, images):
    assert torch.equal(run(images, name, 3, seed=1), run(images, name, 3, seed=1))
    if name in ("speckle", "shadow", "reverberation", "time gain", "rotation"):
        assert not torch.equal(run(images, name, 3, seed=1), run(images, name, 3, seed=2))


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if n not in ("rotation", "blur axial", "pixelation", "jpeg")])
def test_the_letterbox_stays_black(name, images):
    border = images.flatten(0, 2).reshape(6, 64, 64).amax((0, 2)) == 0
    assert border.sum() > 10
    assert run(images, name, 5)[:, :, border].max() == 0


@every_corruption
def test_colour_works(name, images):
    assert run(images.expand(-1, 3, -1, -1), name, 2).shape == (6, 3, 64, 64)


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
    assert len(table) == 1 + 5 * len(CORRUPTIONS)
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
    assert len(whole) == 1 + 5 * len(CORRUPTIONS)
    assert all(torch.equal(batch[:, 1:], x[:, 1:]) for batch in whole)
    expected = [images, *(run(images, name, severity) for name in CORRUPTIONS for severity in SEVERITIES)]
    assert all(torch.equal(batch[:, :1], own) for batch, own in zip(whole, expected, strict=True))


def test_unknown_names_and_severities_get_a_sentence(images):
    with pytest.raises(MirstError, match="unknown corruption rain"):
        run(images, "rain", 1)
    with pytest.raises(MirstError, match="severity is 6"):
        run(images, "jpeg", 6)
