import pytest

from mirst.defenses import AT
from tests.defenses.oracle import ascend, assert_same_loss_and_gradients, cross_entropy
from tests.helpers import small_cnn


@pytest.mark.parametrize(("eps", "step", "steps"), [(0.02, 0.003, 10), (0.05, 0.05, 3)])
def test_loss_and_gradients_equal_a_slow_transcription(eps, step, steps, batch):
    x, y = batch[0].double(), batch[1]
    ours, theirs = (small_cnn().double().eval() for _ in range(2))
    total = AT(eps=eps, step_size=step, steps=steps)(ours, x, y).total
    losses = []
    for image, label in zip(x, y, strict=True):
        *_, attacked = ascend(lambda z, label=label: cross_entropy(theirs, z, label), image, image, eps, step, steps)
        losses.append(cross_entropy(theirs, attacked, label))
    assert_same_loss_and_gradients(ours, total, theirs, sum(losses) / len(x))
