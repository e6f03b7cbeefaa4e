import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from mirst.attacks import PGD
from mirst.defenses import CE, RST
from mirst.errors import MirstError
from mirst.training import Training, fit
from tests.helpers import small_cnn

EPS = 8 / 255
AUC = Training(epochs=8, lr=1e-2, select="best_robust_auc")


def images(seed):
    """Images that are a little brighter if positive, so that scores of both classes mix."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(40) % 2
    x = torch.rand(40, 1, 16, 16, generator=generator)
    return (x + 0.03 * y[:, None, None, None]).clamp(0, 1), y


def attacked_auc(model, x, y):
    model.eval()
    moved = PGD(eps=EPS, steps=10, step_size=EPS / 5)(model, x, y)
    with torch.no_grad():
        logits = model(moved)
    return roc_auc_score(y, logits[:, 1] - logits[:, 0])


def test_the_epoch_of_the_largest_auc_under_attack_is_kept():
    model, (x, y), states = small_cnn(), images(1), {}

    def on_epoch(epoch):
        states[epoch.number] = {name: value.clone() for name, value in model.state_dict().items()}

    val = DataLoader(TensorDataset(x, y), batch_size=16)
    result = fit(model, [images(0)], RST(eps=EPS, steps=2), val=val, settings=AUC, on_epoch=on_epoch)
    full = [epoch for epoch in result.history if epoch.eps_share == 1]
    assert 1 < len(full) < len(result.history)
    assert all(epoch.attacked_auc is None for epoch in result.history if epoch.eps_share < 1)
    best = max(full, key=lambda epoch: (epoch.attacked_auc, epoch.number))
    assert len({epoch.attacked_auc for epoch in full}) > 1
    assert result.epoch == best.number
    assert all(torch.equal(value, states[best.number][name]) for name, value in model.state_dict().items())
    for epoch in full:
        trained = small_cnn()
        trained.load_state_dict(states[epoch.number])
        assert epoch.attacked_auc == pytest.approx(attacked_auc(trained, x, y), abs=0.01)
        assert epoch.attacked is not None


def test_the_selection_changes_no_step():
    """The history agrees with that of the other selections, apart from what they do not measure."""
    histories = {}
    for select in ("last", "best_robust", "best_robust_auc"):
        settings = Training(epochs=5, select=select)
        histories[select] = fit(
            small_cnn(), [images(0)], RST(eps=EPS, steps=2), val=[images(1)], settings=settings
        ).history
    losses = [[(epoch.loss, epoch.clean) for epoch in history] for history in histories.values()]
    assert losses[0] == losses[1] == losses[2]
    assert [epoch.attacked for epoch in histories["best_robust"]] == [e.attacked for e in histories["best_robust_auc"]]
    assert all(epoch.attacked_auc is None for name in ("last", "best_robust") for epoch in histories[name])


def test_it_needs_validation_images_of_two_classes():
    with pytest.raises(MirstError, match="select=best_robust_auc and threshold=argmax need validation images"):
        fit(small_cnn(), [images(0)], CE(), settings=AUC)
    three = [(torch.rand(6, 1, 16, 16), torch.arange(6) % 3)]
    with pytest.raises(MirstError, match="select=best_robust_auc needs two classes, not 3; set it to last"):
        fit(small_cnn(classes=3), three, CE(), val=three, settings=AUC)
    one = [(torch.rand(6, 1, 16, 16), torch.ones(6).long())]
    with pytest.raises(MirstError, match="select=best_robust_auc needs validation images of both classes; add some"):
        fit(small_cnn(), [images(0)], CE(), val=one, settings=AUC)
