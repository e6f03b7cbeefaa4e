"""Features of outlines on drawn shapes, whether they know the size, and the leak of BUSI's outlines."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from mirst.data import audit_records, read_dataset
from mirst.data.masks import masks_of
from mirst.data.outlines import PRECISION, outline_features, outline_predictions
from mirst.evaluation.outline_leak import outline_finding

NAMES = ("extent", "solidity", "compactness", "spread", "low", "middle", "high", "highest", "parts", "largest")


def shape(waves=0, depth=0.0, height=60.0, width=60.0, at=(150.0, 150.0), side=300):
    """An ellipse whose radius has `waves` waves of the relative `depth`."""
    y, x = np.mgrid[:side, :side]
    v, u = (y - at[0]) / height, (x - at[1]) / width
    return np.hypot(u, v) < 1 + depth * np.cos(waves * np.arctan2(v, u))


def features(mask):
    return dict(zip(NAMES, outline_features(mask), strict=True))


@settings(deadline=None, max_examples=40)
@given(height=st.floats(25, 120), width=st.floats(25, 120), at=st.tuples(st.floats(122, 178), st.floats(122, 178)))
def test_size_place_and_aspect_of_an_ellipse_do_not_show(height, width, at):
    difference = outline_features(shape(height=height, width=width, at=at)) - outline_features(shape())
    assert (np.abs(difference) < 2 * PRECISION).all()


def test_an_ellipse_and_a_rectangle_have_the_shares_of_geometry():
    ellipse, rectangle = features(shape()), features(np.pad(np.ones((40, 90), bool), 20))
    assert ellipse["extent"] == pytest.approx(np.pi / 4, abs=0.02)
    assert rectangle["extent"] == pytest.approx(1.0, abs=0.02)
    assert ellipse["compactness"] == pytest.approx(np.log(4 * np.pi), abs=0.02)


@pytest.mark.parametrize(("waves", "band"), [(3, "low"), (5, "middle"), (9, "high"), (14, "highest")])
def test_waves_show_in_their_band(waves, band):
    """The power of `cos` of relative depth d in one harmonic is (d / 2)^2."""
    smooth, jagged = features(shape()), features(shape(waves, 0.1))
    gains = {name: jagged[name] - smooth[name] for name in ("low", "middle", "high", "highest")}
    assert max(gains, key=gains.get) == band
    if waves < 10:  # finer waves are blurred
        assert jagged[band] == pytest.approx(np.log(0.05**2), abs=0.5)
    if waves > 3:  # three are so long that the outline stays convex
        assert jagged["solidity"] < smooth["solidity"] - 0.03
        assert jagged["compactness"] > smooth["compactness"] + 0.05


def test_parts_are_counted():
    two = shape(at=(100, 100), height=30, width=30) | shape(at=(200, 200), height=60, width=60)
    assert features(two)["parts"] == pytest.approx(np.log(2))
    assert features(two)["largest"] == pytest.approx(0.8, abs=0.02)
    assert features(shape())["parts"] == 0


@pytest.mark.parametrize("mask", [np.ones((1, 1), bool), np.ones((1, 50), bool), np.eye(40, dtype=bool)])
def test_masks_of_a_few_pixels_have_features(mask):
    assert np.isfinite(outline_features(mask)).all()


def write_set(folder, jagged, count=15, classes=("benign", "malignant")):
    rng = np.random.default_rng(0)
    for number, label in enumerate(classes):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / label / f"{i}.png")
            size = rng.uniform(30, 100, 2)
            mask = shape(int(rng.integers(5, 9)), jagged * number, *size)
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / label / f"{i}_mask.png")
    return folder


def test_jagged_outlines_of_one_class_are_found_and_smooth_ones_of_both_are_not(tmp_path, mirst):
    code, out, _ = mirst("data", "audit", write_set(tmp_path / "jagged", 0.1))
    assert code == 0
    assert "WARNING: outlines of the masks alone tell benign from malignant with AUC 1.000 [" in out
    assert "(30 outlines, their size, place and aspect left out); never give masks or their shape to a model" in out
    _, out, _ = mirst("data", "audit", write_set(tmp_path / "smooth", 0.0))
    assert "Outlines of the masks alone cannot tell benign from malignant: AUC 0." in out


@pytest.mark.parametrize(
    ("count", "classes"), [(4, ("benign", "malignant")), (12, ("a", "b", "c"))], ids=["too few", "three classes"]
)
def test_sets_that_cannot_be_tested_have_no_sentence(tmp_path, count, classes):
    records = audit_records(read_dataset(write_set(tmp_path, 0.1, count, classes))).grouped()
    assert outline_predictions(records) is None
    assert outline_finding(records) is None


def test_masks_of_no_use_are_left_out(tmp_path):
    write_set(tmp_path, 0.1)
    (tmp_path / "benign" / "0_mask.png").write_bytes(b"no image")
    Image.new("L", (300, 300)).save(tmp_path / "benign" / "1_mask.png")
    Image.new("L", (20, 20), 255).save(tmp_path / "benign" / "2_mask_1.png")
    (tmp_path / "benign" / "3_mask.png").unlink()
    rows = outline_predictions(audit_records(read_dataset(tmp_path)).grouped())
    assert set(rows[rows["label"] == "benign"]["image"]) == {f"benign/{i}.png" for i in range(4, 15)}
    assert len(rows) == 26


def test_no_group_is_on_both_sides_and_every_outline_has_a_prediction(tmp_path):
    records = audit_records(read_dataset(write_set(tmp_path, 0.1))).grouped()
    rows = outline_predictions(records)
    assert rows.groupby("group")["fold"].nunique().max() == 1
    assert rows["fold"].nunique() == 5
    assert ((rows["score"] > 0) == (rows["prediction"] == "malignant")).all()


def test_busis_outlines_give_away_the_diagnosis_and_ellipses_in_their_boxes_do_not(real_data, tmp_path):
    """The same test of the same boxes, each with an ellipse instead of its outline: neither size nor aspect shows."""
    every = read_dataset(real_data / "busi", ["benign", "malignant"])
    records = [replace(record, group=record.name) for record in every[::2]]  # no audit, which takes long
    rows = outline_predictions(records)
    assert len(rows) == 324
    assert roc_auc_score(rows["label"] == "malignant", rows["score"]) > 0.95
    drawn = [with_ellipse(record, tmp_path) for record in records]
    ellipses = outline_predictions(drawn)
    assert len(ellipses) == 324
    assert 0.35 < roc_auc_score(ellipses["label"] == "malignant", ellipses["score"]) < 0.6


def with_ellipse(record, folder):
    """A record whose mask is the ellipse in the box of its masks."""
    white = np.any([np.asarray(Image.open(path).convert("L")) > 127 for path in masks_of(record.path)], axis=0)
    y, x = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    height, width = (y[-1] + 1 - y[0]) / 2, (x[-1] + 1 - x[0]) / 2
    v, u = np.mgrid[: white.shape[0], : white.shape[1]]
    ellipse = np.hypot((v + 0.5 - y[0] - height) / height, (u + 0.5 - x[0] - width) / width) <= 1
    path = folder / record.name
    path.parent.mkdir(exist_ok=True)
    mask = path.with_name(f"{path.stem}_mask.png")
    Image.fromarray(ellipse).save(mask)
    return replace(record, path=path, masks=(mask,))
