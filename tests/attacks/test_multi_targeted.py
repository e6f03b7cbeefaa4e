"""MultiTargeted: the best of the targeted attacks, image by image."""

import pytest
import torch

from mirst.attacks import APGD, PGD, MultiTargeted
from mirst.errors import MirstError
from tests.helpers import misclassified, on_the_fence, seeded, slow_margin, small_cnn

TOWARDS = PGD(eps=0.003, steps=5, targeted=True)


@pytest.fixture
def model(batch):
    return on_the_fence(small_cnn(classes=5), batch[0])


def test_the_largest_margin_of_all_targets_counts(model, batch):
    x, y = batch
    logits = model(x).detach()
    margins = [slow_margin(logits, y)]  # the clean image's
    successes = [misclassified(model, x, y)]
    for step in range(1, 5):  # every wrong class once, in an order of its own
        attacked = TOWARDS(model, x, (y + step) % 5)
        margins.append(slow_margin(model(attacked).detach(), y))
        successes.append(misclassified(model, attacked, y))
    attacked = MultiTargeted(attack=TOWARDS)(model, x, y)
    found = slow_margin(model(attacked).detach(), y)
    torch.testing.assert_close(found, torch.stack(margins).amax(0))
    assert torch.equal(misclassified(model, attacked, y), torch.stack(successes).any(0))
    assert len({int(i) for i in torch.stack(margins).argmax(0)}) > 1  # no one target wins everywhere


def test_the_likeliest_wrong_classes_come_first(model, batch):
    x, y = batch
    ranked = [
        sorted((k for k in range(5) if k != own), key=lambda k: -z[k]) for z, own in zip(model(x), y, strict=True)
    ]
    towards_first = TOWARDS(model, x, torch.tensor([classes[0] for classes in ranked]))
    torch.testing.assert_close(MultiTargeted(attack=TOWARDS, targets=1)(model, x, y), towards_first)

    towards_second = TOWARDS(model, x, torch.tensor([classes[1] for classes in ranked]))
    both = [slow_margin(model(images).detach(), y) for images in (towards_first, towards_second)]
    found = slow_margin(model(MultiTargeted(attack=TOWARDS, targets=2)(model, x, y)).detach(), y)
    torch.testing.assert_close(found, torch.maximum(*both))


@pytest.mark.parametrize("attack", [PGD, APGD])
def test_with_two_classes_it_is_the_untargeted_attack(attack, batch):
    model = on_the_fence(small_cnn(), batch[0])
    untargeted = attack(steps=5)(model, *batch, generator=seeded())
    many = MultiTargeted(attack=attack(steps=5, targeted=True))(model, *batch, generator=seeded())
    torch.testing.assert_close(many, untargeted)


def test_a_misclassified_image_stays_misclassified(model, batch):
    x, y = batch
    wrong = misclassified(model, x, y)
    assert wrong.any()
    for targets in (1, 9):
        attacked = MultiTargeted(attack=TOWARDS, targets=targets)(model, x, y)
        assert misclassified(model, attacked, y)[wrong].all()


def test_the_clean_image_stays_where_the_attack_only_helps(model, batch):
    x, y = batch

    class Backwards:
        eps, targeted = TOWARDS.eps, True

        def __call__(self, model, x, target, *, generator=None):
            return TOWARDS(model, x, y)

    assert torch.equal(MultiTargeted(attack=Backwards())(model, x, y), x)


def test_its_radius_is_the_attacks():
    assert MultiTargeted(attack=TOWARDS).eps == 0.003


def test_an_untargeted_attack_is_refused():
    with pytest.raises(MirstError, match="targeted=True"):
        MultiTargeted(attack=PGD())


def test_no_target_is_refused():
    with pytest.raises(MirstError, match="targets is 0"):
        MultiTargeted(attack=TOWARDS, targets=0)
