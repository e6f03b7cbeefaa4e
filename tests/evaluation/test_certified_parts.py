"""Certificates that are interrupted and continued."""

import pandas as pd
import pytest
import torch

from mirst.evaluation import certify
from mirst.evaluation.certified_parts import certify_in_parts
from tests.helpers import small_batch, small_cnn, without_dropout

EPS = [4 / 255, 1 / 255]


@pytest.fixture
def model():
    return without_dropout(small_cnn()).eval()


@pytest.fixture
def batches():
    x, y = small_batch()
    return [(x[:3], y[:3]), (x[3:5], y[3:5]), (x[5:], y[5:])]


class Killed(BaseException):
    """As `kill -9`: nothing of the call's own runs after it."""


def run(folder, model, batches, *, eps=EPS, kill_at=None, **settings):
    """The rows, and for how many images of each batch work began."""
    begun = []

    def see(progress):
        if progress.what == "no attack":
            begun.append(progress.done)
        if kill_at is not None and progress.what == "apgd-margin" and progress.done >= kill_at:
            raise Killed

    images = sum(len(y) for _, y in batches)
    rows = certify_in_parts(folder, model, batches, eps, images=images, on_progress=see, **settings)
    assert not list(folder.iterdir())
    return rows, sorted(set(begun))


def test_the_rows_are_those_of_one_call(model, batches, tmp_path):
    rows, begun = run(tmp_path, model, batches, threshold=0.1)
    once = certify(model, batches, EPS, threshold=0.1)
    pd.testing.assert_frame_equal(rows, once, rtol=1e-5)  # the attack takes other images at once
    assert begun == [0, 3, 5, 6]


def test_a_killed_call_continues_with_the_batch_that_was_not_finished(model, batches, tmp_path):
    whole, _ = run(tmp_path / "whole", model, batches)
    with pytest.raises(Killed):
        run(tmp_path / "killed", model, batches, kill_at=4)
    assert len(list((tmp_path / "killed").iterdir())) == 1
    rows, begun = run(tmp_path / "killed", model, batches)
    pd.testing.assert_frame_equal(rows, whole, check_exact=True)
    assert begun == [3, 5, 6]


def test_other_inputs_use_nothing_of_a_killed_call(model, batches, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, model, batches, kill_at=4)
    left = list(tmp_path.iterdir())
    other = without_dropout(small_cnn()).eval()
    with torch.no_grad():
        next(iter(other.parameters())).add_(0.01)
    shifted = [((x + 1e-3).clamp(0, 1), y) for x, y in batches]
    changes = [
        {"model": other},
        {"data": shifted},
        {"eps": EPS[:1]},
        {"threshold": 0.2},
        {"method": "crown"},
        {"seed": 1},
    ]
    for changed in changes:
        seen = []
        given = {"model": model, "data": batches, "eps": EPS} | changed
        with pytest.raises(Killed):
            certify_in_parts(tmp_path, **given, images=6, on_progress=killer(seen))
        assert seen == ["no attack"]
    assert list(tmp_path.iterdir()) == left


def killer(seen):
    def stop(progress):
        seen.append(progress.what)
        raise Killed

    return stop


def test_without_images_the_call_is_refused_as_certify_does(model, tmp_path):
    from mirst.errors import MirstError

    with pytest.raises(MirstError, match="no images"):
        certify_in_parts(tmp_path, model, [], EPS, images=0)
