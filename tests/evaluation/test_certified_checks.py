"""Certificates settle the checks for gradient masking."""

import pytest
import torch
from torch import nn

from mirst.attacks import PGD
from mirst.errors import MirstError
from mirst.evaluation import Check, certify, overall, settled
from mirst.evaluation.masking import check_masking

DOUBTS = [
    Check("budget", "suspect", "all attacks have fixed steps"),
    Check("gradients", "fail", "of 64 images, 64 have a zero gradient"),
    Check("noise", "pass", "noise misclassifies 2"),
]
COLLAPSED = Check("unbounded", "fail", "without the box, collapsed: the model predicts class 1 for every image")


def test_a_certificate_for_every_survivor_settles_every_doubt():
    found = settled(DOUBTS, surviving=40, certified=40, images=64)
    assert overall(found) == "pass"
    assert [check.name for check in found] == ["budget", "gradients", "noise", "certificates"]
    assert [check.figures.endswith("; the certificates settle it") for check in found] == [True, True, False, False]
    assert found[-1].figures.startswith("40 of the 40 images that no attack misclassifies are certified")


@pytest.mark.parametrize(("certified", "verdict"), [(0, "fail"), (38, "fail"), (39, "pass")])
def test_as_many_images_may_be_left_as_the_other_checks_tolerate(certified, verdict):
    assert overall(settled(DOUBTS, surviving=40, certified=certified, images=64)) == verdict


def test_a_collapsed_model_still_fails():
    found = settled([COLLAPSED, *DOUBTS], surviving=64, certified=64, images=64)
    assert found[0] == COLLAPSED
    assert overall(found) == "fail"


@pytest.mark.parametrize(("surviving", "certified"), [(65, 0), (-1, 0), (4, 5), (4, -1)])
def test_counts_out_of_range_are_refused(surviving, certified):
    with pytest.raises(MirstError, match="cannot be"):
        settled(DOUBTS, surviving=surviving, certified=certified, images=64)


class Steps(nn.Module):
    """Saturates: its gradient is zero wherever the ReLU is, although it is right about its robustness."""

    def __init__(self):
        super().__init__()
        self.sum = nn.Linear(4, 2)
        with torch.no_grad():
            self.sum.weight.copy_(torch.tensor([[-25.0] * 4, [25.0] * 4]))
            self.sum.bias.copy_(torch.tensor([50.0, -50.0]))

    def forward(self, x):
        return torch.clamp(self.sum(x.flatten(1)), -1.0, 1.0)


def test_a_masked_but_certified_model_passes():
    x = torch.cat([torch.full((32, 1, 2, 2), 0.1), torch.full((32, 1, 2, 2), 0.9)])
    y = torch.arange(64) // 32
    eps, model = 0.02, Steps().eval()
    rows = certify(model, [(x, y)], [eps])
    assert rows["certified"].all()
    settings = {"eps": eps, "attacks": {"pgd": PGD(eps=eps)}, "misclassified_by": {}}
    before = check_masking(model, x, y, **settings)
    assert overall(before) == "fail"
    after = check_masking(model, x, y, certified=torch.tensor(rows["certified"].to_numpy()), **settings)
    assert overall(after) == "pass"
    assert [check.name for check in after] == [*(check.name for check in before), "certificates"]
