import copy
import dataclasses
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mirst.defenses import CE, LLR, MIRST, RST, BaseDefense, LossTerms
from mirst.errors import Diverged, MirstError
from mirst.study.spec import TrialTraining
from mirst.training import EMA, Training, fit
from mirst.training.state import run_identity
from tests.helpers import small_cnn


def toy_data(n=48, seed=0, share=0.5):
    """Images whose left or right half is brighter; the label says which."""
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=generator) < share).long()
    x = 0.4 + 0.2 * torch.rand(n, 1, 16, 16, generator=generator)
    x[y == 1, :, :, 8:] += 0.15
    x[y == 0, :, :, :8] += 0.15
    return TensorDataset(x, y)


def loader(**kwargs):
    return DataLoader(toy_data(**kwargs), batch_size=12, shuffle=True)


def weights(model):
    return [value.clone() for value in model.state_dict().values()]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


QUICK = Training(epochs=6, lr=3e-3)


@pytest.mark.parametrize("defense", [CE(), RST(steps=3), MIRST(steps=3, instances=(3, 2), weights=(0.6, 0.4))])
def test_it_learns_with_a_plain_data_loader_and_a_model_of_the_users(defense):
    model = small_cnn()
    val = DataLoader(toy_data(seed=1), batch_size=50)
    result = fit(model, loader(), defense, val=val, settings=Training(epochs=15, lr=1e-2))
    assert result.history[-1].clean > 0.9
    assert result.history[-1].loss < result.history[0].loss + 0.5
    assert result.collapsed is None
    assert [epoch.number for epoch in result.history] == list(range(1, 16))


def test_runs_repeat_whatever_the_global_seed_and_leave_it_alone():
    def run(global_seed):
        model = small_cnn()
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        fit(model, loader(), RST(steps=2), settings=QUICK, seed=5)
        assert torch.equal(torch.get_rng_state(), before)
        return weights(model)

    assert equal(run(0), run(1))


def test_the_seed_decides():
    def run(seed):
        model = small_cnn()
        fit(model, loader(), CE(), settings=QUICK, seed=seed)
        return weights(model)

    assert not equal(run(0), run(1))


@pytest.mark.parametrize("select", ["last", "best_robust", "best_robust_auc"])
def test_a_run_that_was_killed_ends_as_one_that_never_was(tmp_path, select):
    settings = dataclasses.replace(QUICK, select=select)
    val = DataLoader(toy_data(seed=1), batch_size=50)

    class Killed(Exception):
        pass

    def kill_at(number):
        def on_epoch(epoch):
            if epoch.number == number:
                raise Killed

        return on_epoch

    whole = small_cnn()
    expected = fit(whole, loader(), RST(steps=2), val=val, settings=settings)
    path = tmp_path / "state.pt"
    for number in (2, 5):
        with pytest.raises(Killed):
            fit(
                small_cnn(),
                loader(),
                RST(steps=2),
                val=val,
                settings=settings,
                checkpoint=path,
                on_epoch=kill_at(number),
            )
    resumed = small_cnn(seed=9)
    numbers = []
    result = fit(
        resumed,
        loader(),
        RST(steps=2),
        val=val,
        settings=settings,
        checkpoint=path,
        on_epoch=lambda epoch: numbers.append(epoch.number),
    )
    assert numbers == [6]
    assert result == expected
    assert equal(weights(resumed), weights(whole))


class Signalling(DataLoader):
    """Sends this process a signal while the batches with the numbers of `at`, counted over all epochs, are drawn."""

    at, sent, drawn = frozenset(), signal.SIGINT, 0

    def __iter__(self):
        for batch in super().__iter__():
            self.drawn += 1
            if self.drawn in self.at:
                signal.raise_signal(self.sent)
            yield batch


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_saves_it_and_a_resumed_run_is_the_same(tmp_path, sent):
    """48 images, 12 a step: stopped in the middle of an epoch, at its end, and twice in one epoch."""

    class Terminated(BaseException):
        pass

    def terminate(number, frame):
        raise Terminated

    def train(at, checkpoint=None):
        model, data = small_cnn(), Signalling(toy_data(), batch_size=12, shuffle=True)
        data.at, data.sent = at, sent
        settings = dataclasses.replace(QUICK, select="best_robust", warmup=0.2, ramp=0.2)
        val = DataLoader(toy_data(seed=1), batch_size=50)
        result = fit(model, data, RST(steps=2, random_start=True), val=val, settings=settings, checkpoint=checkpoint)
        return model, data, result

    whole, _, expected = train(at=())
    before, stopped, path = signal.signal(signal.SIGTERM, terminate), 0, tmp_path / "state.pt"
    try:
        for at in (6, 1, 4, 4, 3):  # of those that train: a run draws again what its epoch has done before
            with pytest.raises((KeyboardInterrupt, Terminated)) as caught:
                train({4 + at}, path)  # four are drawn to count the classes
            assert caught.type is (KeyboardInterrupt if sent == signal.SIGINT else Terminated)
            stopped += 1
        resumed, data, result = train((), path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped == 5
    assert data.drawn < 4 + 6 * 4
    assert result == expected
    assert equal(weights(resumed), weights(whole))
    assert all(epoch.seconds > 0 for epoch in result.history)


def test_without_a_checkpoint_a_signal_stops_at_once(tmp_path):
    data = Signalling(toy_data(), batch_size=12)
    data.at = {2}
    with pytest.raises(KeyboardInterrupt):
        fit(small_cnn(), data, CE(), settings=QUICK)
    assert data.drawn == 2


def test_a_state_of_another_version_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(small_cnn(), loader(), CE(), settings=Training(epochs=1), checkpoint=path)
    payload = torch.load(path, weights_only=True)
    torch.save(payload | {"version": 1}, path)
    with pytest.raises(MirstError, match=r"state\.pt was written by another version of mirst; remove it"):
        fit(small_cnn(), loader(), CE(), settings=Training(epochs=1), checkpoint=path)


def test_a_state_of_another_run_and_a_file_that_is_none_are_refused(tmp_path):
    path = tmp_path / "state.pt"
    fit(small_cnn(), loader(), CE(), settings=Training(epochs=1), checkpoint=path)
    with pytest.raises(MirstError, match="other settings"):
        fit(small_cnn(), loader(), CE(), settings=Training(epochs=2), checkpoint=path)
    path.write_text("my thesis")
    with pytest.raises(MirstError, match=r"state\.pt is not a training state .* give another file"):
        fit(small_cnn(), loader(), CE(), settings=Training(epochs=1), checkpoint=path)
    assert path.read_text() == "my thesis"


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_where_every_state_is_damaged_training_starts_afresh_and_says_so(tmp_path, left):
    path, whole = tmp_path / "state.pt", small_cnn()
    fit(whole, loader(), RST(steps=2), settings=Training(epochs=1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:left])
    resumed = small_cnn()
    with pytest.warns(UserWarning, match=r"state\.pt is damaged .* starts from the beginning"):
        fit(resumed, loader(), RST(steps=2), settings=Training(epochs=1), checkpoint=path)
    assert equal(weights(resumed), weights(whole))


def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(tmp_path):
    path, whole = tmp_path / "state.pt", small_cnn()
    fit(whole, loader(), RST(steps=2), settings=Training(epochs=3), checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    resumed, numbers = small_cnn(seed=9), []
    with pytest.warns(UserWarning, match=r"state\.pt is damaged .* resumes from the previous state"):
        fit(
            resumed,
            loader(),
            RST(steps=2),
            settings=Training(epochs=3),
            checkpoint=path,
            on_epoch=lambda epoch: numbers.append(epoch.number),
        )
    assert numbers == [3]
    assert equal(weights(resumed), weights(whole))


def test_warm_up_ramp_and_full_eps():
    settings = Training(epochs=10, warmup=0.2, ramp=0.3)
    assert [settings.eps_share(e) for e in range(10)] == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    defense = RST(eps=0.1, step_size=0.02, class_weights=(1.0, 3.0))
    assert settings.defense_at(defense, 0) == CE(class_weights=(1.0, 3.0))
    ramped = settings.defense_at(defense, 3)
    assert (ramped.eps, ramped.step_size) == (pytest.approx(0.05), pytest.approx(0.01))
    assert settings.defense_at(RST(eps=0.1), 3).step_size is None
    assert settings.defense_at(defense, 9) is defense
    assert settings.defense_at(CE(), 0) == CE()


@pytest.mark.parametrize("epochs", range(1, 12))
def test_the_last_epoch_is_always_at_full_eps(epochs):
    assert Training(epochs=epochs, warmup=0.5, ramp=0.49).eps_share(epochs - 1) == 1


def test_the_learning_rate_falls_along_a_cosine_or_stays():
    cosine = [Training(epochs=10, lr=0.1).lr_at(e) for e in range(10)]
    assert cosine == pytest.approx([0.05 * (1 + np.cos(np.pi * e / 10)) for e in range(10)])
    assert {Training(schedule="constant", lr=0.1).lr_at(e) for e in range(10)} == {0.1}


def test_class_weights_balance_the_classes():
    seen = []

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Spy(CE):
        def __call__(self, model, x, y, *, generator=None):
            seen.append(self.class_weights)
            return super().__call__(model, x, y)

    data = DataLoader(TensorDataset(torch.rand(8, 1, 16, 16), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])), batch_size=8)
    fit(small_cnn(), data, Spy(), settings=Training(epochs=1))
    fit(small_cnn(), data, Spy(), settings=Training(epochs=1, class_weights="none"))
    fit(small_cnn(), data, Spy(class_weights=(5.0, 1.0)), settings=Training(epochs=1))
    assert seen == [pytest.approx((8 / 12, 8 / 4)), None, (5.0, 1.0)]
    with pytest.raises(MirstError, match="class 2 has no training images"):
        fit(small_cnn(classes=3), data, CE(), settings=Training(epochs=1))


def test_best_robust_keeps_the_epoch_of_the_best_validation():
    val = DataLoader(toy_data(seed=1), batch_size=50)
    model, snapshots = small_cnn(), {}
    result = fit(
        model,
        loader(),
        RST(steps=2),
        val=val,
        settings=Training(epochs=8, lr=1e-2, select="best_robust"),
        on_epoch=lambda epoch: snapshots.update({epoch.number: weights(model)}),
    )
    full = [e for e in result.history if e.eps_share == 1]
    assert all(e.attacked is None for e in result.history if e.eps_share < 1)
    best = max((e.clean + e.attacked) / 2 for e in full)
    kept = result.history[result.epoch - 1]
    assert (kept.clean + kept.attacked) / 2 == best
    assert equal(weights(model), snapshots[result.epoch])


def test_the_operating_threshold_is_set_on_validation_images():
    model = small_cnn()
    val = DataLoader(toy_data(seed=1), batch_size=50)
    result = fit(model, loader(), CE(), val=val, settings=Training(epochs=2, threshold="youden"))
    x, y = next(iter(val))
    with torch.no_grad():
        logits = model.eval()(x)
    score = logits[:, 1] - logits[:, 0]

    def gain(threshold):
        return (score[y == 1] > threshold).float().mean() + (score[y == 0] <= threshold).float().mean()

    assert gain(result.threshold) >= max(gain(s) for s in score) - 1e-6
    assert fit(small_cnn(), loader(), CE(), settings=Training(epochs=1)).threshold == 0.0


def test_a_collapsed_model_is_named():
    model = small_cnn()
    model[-1].weight.data.zero_()
    model[-1].bias.data = torch.tensor([0.0, 9.0])
    result = fit(model, loader(), CE(), settings=Training(epochs=1, lr=1e-9))
    assert result.collapsed == 1
    assert "collapsed: the model predicts class 1 for every image" in str(result)


@dataclass(frozen=True, kw_only=True)
class NoNumber(BaseDefense):
    class_weights: tuple[float, ...] | None = None

    def __call__(self, model, x, y, *, generator=None):
        return LossTerms(model(x).sum() * torch.nan, {})


def test_a_loss_that_is_not_finite_ends_the_training():
    with pytest.raises(Diverged, match="diverged in epoch 1: the loss is nan"):
        fit(small_cnn(), loader(), NoNumber(), settings=QUICK)


def test_an_exploding_loss_ends_the_training_and_keeps_the_history():
    settings = Training(epochs=10, warmup=0.5, ramp=0.0)
    with pytest.raises(Diverged, match=r"diverged in epoch 6: the loss is \d.*e\+") as caught:
        fit(small_cnn(), loader(), LLR(linearity_weight=1e12), settings=settings)
    assert [epoch.number for epoch in caught.value.history] == [1, 2, 3, 4, 5]


@dataclass(frozen=True, kw_only=True)
class Cliff(BaseDefense):
    """A loss of 0 whose gradient is infinite."""

    class_weights: tuple[float, ...] | None = None

    def __call__(self, model, x, y, *, generator=None):
        weight = model[-1].bias
        return LossTerms((weight - weight.detach()).sqrt().sum(), {})


def test_weights_that_are_not_finite_end_the_training():
    one_batch = [(torch.rand(4, 1, 16, 16), torch.tensor([0, 1, 0, 1]))]
    with pytest.raises(Diverged, match="diverged in epoch 1: the weights are not finite"):
        fit(small_cnn(), one_batch, Cliff(), settings=Training(epochs=1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"select": "best_robust"}, "pass val"),
        ({"threshold": "youden"}, "pass val"),
    ],
)
def test_settings_that_need_validation_images_say_so(settings, words):
    with pytest.raises(MirstError, match=words):
        fit(small_cnn(), loader(), CE(), settings=Training(**settings))


def test_a_threshold_needs_two_classes():
    data = DataLoader(TensorDataset(torch.rand(9, 1, 16, 16), torch.arange(9) % 3), batch_size=9)
    with pytest.raises(MirstError, match="two classes, not 3"):
        fit(small_cnn(classes=3), data, CE(), val=data, settings=Training(threshold="youden"))


@pytest.mark.parametrize("fields", [{"epochs": 0}, {"lr": 0.0}, {"warmup": -0.1}, {"warmup": 0.6, "ramp": 0.4}])
def test_settings_out_of_range_get_a_sentence(fields):
    with pytest.raises(MirstError, match=next(iter(fields))):
        Training(**fields)


def test_modes_of_the_model_do_not_leak_into_the_result():
    """A model handed over in eval mode is trained in train mode all the same."""
    a, b = small_cnn().eval(), small_cnn().train()
    for model in (a, b):
        fit(model, loader(), CE(), settings=QUICK)
    assert equal(weights(a), weights(b))
    assert isinstance(copy.deepcopy(a), nn.Module)


def test_the_fast_layout_changes_rounding_alone_and_is_undone():
    data = [(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(k)), torch.arange(8) % 2) for k in (1, 2)]
    fast, plain = (small_cnn() for _ in range(2))
    seen = []
    for model in (fast, plain):
        model[4].register_forward_pre_hook(lambda conv, _: seen.append(conv.weight.is_contiguous()))
    losses = [
        [epoch.loss for epoch in fit(model, data, CE(), settings=Training(epochs=2, fast=is_optimized)).history]
        for model, is_optimized in ((fast, True), (plain, False))
    ]
    half = len(seen) // 2
    assert not any(seen[:half])
    assert all(seen[half:])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert all(parameter.is_contiguous() for parameter in fast.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        {"select": "best"},
        {"threshold": "Youden"},
        {"schedule": "linear"},
        {"class_weights": "balance"},
        {"epochs": 1.5},
    ],
)
def test_settings_that_are_no_choice_get_a_sentence(wrong):
    with pytest.raises(MirstError, match=next(iter(wrong))):
        Training(**wrong)


OPTIMIZERS = [
    ({}, lambda weights: torch.optim.Adam(weights, lr=0.01)),
    ({"weight_decay": 0.1}, lambda weights: torch.optim.Adam(weights, lr=0.01, weight_decay=0.1)),
    (
        {"optimizer": "adamw", "weight_decay": 0.1},
        lambda weights: torch.optim.AdamW(weights, lr=0.01, weight_decay=0.1),
    ),
    ({"optimizer": "sgd"}, lambda weights: torch.optim.SGD(weights, lr=0.01)),
    (
        {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.1},
        lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=0.1),
    ),
]


@pytest.mark.parametrize(("fields", "optimizer"), OPTIMIZERS)
def test_optimizers_are_those_of_torch(fields, optimizer, batch):
    trained, expected = (small_cnn() for _ in range(2))
    for model in (trained, expected):
        model[8] = nn.Identity()
    settings = Training(epochs=4, lr=0.01, schedule="constant", class_weights="none", fast=False, **fields)
    fit(trained, [batch], CE(), settings=settings)
    steps = optimizer(expected.train().parameters())
    for _ in range(4):
        steps.zero_grad()
        nn.functional.cross_entropy(expected(batch[0]), batch[1]).backward()
        steps.step()
    assert equal(weights(trained), weights(expected))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"optimizer": "rmsprop"}, "optimizer is rmsprop; choose adam or adamw or sgd"),
        ({"momentum": 0.9}, "momentum is 0.9, but optimizer adam takes none; set optimizer to sgd or momentum to 0"),
        ({"optimizer": "adamw", "weight_decay": 0.1, "momentum": 0.9}, "optimizer adamw takes none"),
        ({"optimizer": "adamw"}, "optimizer adamw with weight_decay 0 is the same as adam; set weight_decay"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum is 1.0"),
    ],
)
def test_optimizer_settings_that_make_no_sense_get_a_sentence(fields, words):
    with pytest.raises(MirstError, match=words):
        Training(**fields)


def test_a_training_without_newer_options_has_the_identity_of_older_versions():
    """Written out, as version 2 of the training state first had it."""
    expected = (
        "(CE(class_weights=None), Training(epochs=2, lr=0.001, schedule='cosine', warmup=0.2, ramp=0.2, "
        "class_weights='balanced', select='last', threshold='argmax', fast=True), 7)"
    )
    assert run_identity(CE(), Training(epochs=2), 7, ()) == expected
    others = [
        run_identity(CE(), Training(epochs=2, optimizer="sgd"), 7, ()),
        run_identity(CE(), Training(epochs=2, weight_decay=0.1), 7, ()),
        run_identity(CE(), Training(epochs=2), 7, [EMA()]),
        run_identity(CE(), Training(epochs=2), 8, ()),
    ]
    assert len({expected, *others}) == 5


def test_an_identity_of_a_study_has_its_own_settings():
    text = run_identity(CE(), TrialTraining(epochs=2, batch_size=9), 0, ())
    assert "TrialTraining(epochs=2, " in text
    assert "batch_size=9, augment=True, val_fraction=0.15, threads=1), 0)" in text


def test_a_state_from_before_extensions_is_resumed(tmp_path):
    path, whole = tmp_path / "state.pt", small_cnn()
    fit(whole, loader(), RST(steps=2), settings=QUICK)

    class Killed(Exception):
        pass

    def kill(epoch):
        raise Killed

    with pytest.raises(Killed):
        fit(small_cnn(), loader(), RST(steps=2), settings=QUICK, checkpoint=path, on_epoch=kill)
    content = torch.load(path, weights_only=True)
    del content["extensions"]
    for epoch in content["history"]:
        del epoch["attacked_auc"]  # nor was there an AUC
    torch.save(content, path)
    resumed, numbers = small_cnn(seed=9), []
    fit(
        resumed,
        loader(),
        RST(steps=2),
        settings=QUICK,
        checkpoint=path,
        on_epoch=lambda epoch: numbers.append(epoch.number),
    )
    assert numbers == [2, 3, 4, 5, 6]
    assert equal(weights(resumed), weights(whole))


def test_counting_the_labels_calls_the_model_on_the_first_batch_alone():
    model, seen = small_cnn(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    data = [(torch.rand(n, 1, 16, 16), torch.zeros(n).long()) for n in (5, 6, 7)]
    with pytest.raises(MirstError, match="class 1 has no training images"):
        fit(model, data, CE())
    assert seen == [5, 5]  # in train and in eval mode
