import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mirst.defenses import CE
from mirst.errors import MirstError
from mirst.training import EMA, Training, fit
from tests.helpers import small_cnn


@given(st.floats(0, 0.999), st.lists(st.floats(-10, 10), min_size=1, max_size=20))
def test_it_is_the_weighted_mean_of_the_weights_after_each_step(decay, weights):
    model, ema = nn.Linear(1, 1, bias=False).double(), EMA(decay=decay)
    ema.start(model)
    for weight in weights:
        nn.init.constant_(model.weight, weight)
        ema.after_step(model)
    shares = [(1 - decay) * decay ** (len(weights) - 1 - i) for i in range(len(weights))]
    expected = sum(share * weight for share, weight in zip(shares, weights, strict=True)) / sum(shares)
    assert ema.evaluation_weights()["weight"].item() == pytest.approx(expected, abs=1e-9)


class Recorder(EMA):
    """Keeps every state of the model, for the slow transcription."""

    seen: list[dict[str, torch.Tensor]] = []  # noqa: RUF012 - shared with the copy that fit makes

    def after_step(self, model):
        super().after_step(model)
        self.seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})


@pytest.mark.parametrize("select", ["last", "best_robust"])
def test_the_fitted_model_has_the_average_of_weights_and_float_buffers(batch, select):
    Recorder.seen.clear()
    model, settings = small_cnn(), Training(epochs=4, select=select, warmup=0, ramp=0)
    result = fit(model, [batch, batch], CE(), val=[batch], settings=settings, extensions=[Recorder(decay=0.6)])
    seen = Recorder.seen[: 2 * result.epoch]
    assert len(Recorder.seen) == 8
    shares = torch.tensor([0.6 ** (len(seen) - 1 - i) for i in range(len(seen))], dtype=torch.float64)
    for name, tensor in model.state_dict().items():
        history = torch.stack([state[name].double() for state in seen])
        if tensor.is_floating_point():
            mean = torch.tensordot(shares / shares.sum(), history, 1)
            torch.testing.assert_close(tensor.double(), mean, rtol=1e-5, atol=1e-6)
        else:
            assert tensor == history[-1]


def test_validation_and_threshold_use_the_average(batch):
    x, y = batch
    settings = Training(epochs=3, lr=0.05, threshold="youden")
    averaged, own = small_cnn(), small_cnn()
    result = fit(averaged, [batch], CE(), val=[batch], settings=settings, extensions=[EMA(decay=0.9)])
    plain = fit(own, [batch], CE(), val=[batch], settings=settings)
    with torch.no_grad():
        logits = averaged.eval()(x)
    predicted = logits.argmax(1)
    accuracy = sum((predicted[y == k] == k).float().mean().item() for k in (0, 1)) / 2
    assert result.history[-1].clean == pytest.approx(accuracy)
    score = logits[:, 1] - logits[:, 0]
    sensitivity, specificity = (score[y == 1] > result.threshold), (score[y == 0] <= result.threshold)
    gains = [(score[y == 1] > s).float().mean() + (score[y == 0] <= s).float().mean() for s in score]
    assert sensitivity.float().mean() + specificity.float().mean() >= max(gains) - 1e-6
    assert [epoch.loss for epoch in result.history] == [epoch.loss for epoch in plain.history]  # it trains alike
    assert result.threshold != plain.threshold


def test_decay_0_is_the_model_itself(batch):
    averaged, own = small_cnn(), small_cnn()
    fit(averaged, [batch], CE(), settings=Training(epochs=3), extensions=[EMA(decay=0.0)])
    fit(own, [batch], CE(), settings=Training(epochs=3))
    states = zip(averaged.state_dict().values(), own.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_gets_a_sentence(decay):
    with pytest.raises(MirstError, match="decay is"):
        EMA(decay=decay)
