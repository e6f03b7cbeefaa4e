"""What the Ray engine refuses, and what it sends; no cluster runs."""

import pickle

import numpy as np
import pytest
import torch

from mirst.errors import MirstError
from mirst.nn import build_model, save_backbone
from mirst.study import Ray, StudySpec, load_spec
from mirst.study.engines.base import Job
from mirst.study.engines.ray import shipment_of
from mirst.study.engines.ray_worker import require_same, with_weights
from mirst.study.initial_model import initial_model
from mirst.study.layout import StudyFolder
from mirst.study.prepared import prepare
from mirst.study.spec_sections import ModelSpec
from mirst.study.train_trial import TrainTrial

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning:ray")


def test_initial_weights_travel_with_the_study(small_yaml, phantoms, tmp_path):
    torch.manual_seed(3)
    backbone = tmp_path / "backbone.safetensors"
    save_backbone(backbone, build_model("resnet_tiny", 1, 2))
    spec = load_spec(small_yaml, [f"data.path={phantoms}", "data.channels=1", f"model.weights={backbone}"])
    shipment = pickle.loads(pickle.dumps(shipment_of(Job(TrainTrial(), prepare(spec), StudyFolder(tmp_path)))))  # noqa: S301 - our own
    expected, _ = initial_model(spec, 2, False, 0)
    backbone.unlink()
    there = with_weights(shipment, tmp_path)
    model, _ = initial_model(there.spec, 2, False, 0, there.weights_file)
    assert there.spec.model.weights == str(backbone)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert np.array_equal(there.images.pixels, prepare(spec.model_copy(update={"model": ModelSpec()})).images.pixels)


@pytest.mark.parametrize(
    ("jobs", "gpus", "words"),
    [
        (0, None, "--jobs is 0; it must be at least 1"),
        (None, -1.0, "--gpus-per-trial is -1; it must be a share of one, 0, or a whole number"),
        (None, 1.5, "--gpus-per-trial is 1.5;"),
        (None, float("nan"), "--gpus-per-trial is nan;"),
        (None, float("inf"), "--gpus-per-trial is inf;"),
    ],
)
def test_needs_that_make_no_sense_get_a_sentence(jobs, gpus, words):
    with pytest.raises(MirstError, match=words):
        Ray(jobs, gpus)


def test_a_machine_with_another_version_is_refused():
    with pytest.raises(MirstError, match=r"has torch .*, but the study runs with 1\.0; install the same versions"):
        require_same({"torch": "1.0"})


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "cannot reach a Ray cluster at 127.0.0.1:9"),
        ("nonsense", "cannot reach a Ray cluster at nonsense"),
        ("ray://127.0.0.1:9", "run the command on a machine of the cluster"),
    ],
)
def test_an_address_without_a_cluster_gets_a_sentence(address, words):
    engine = Ray(address=address)
    with pytest.raises(MirstError, match=words), engine.connected(StudySpec()):
        pass
