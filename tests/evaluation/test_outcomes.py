from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mirst.attacks import CW, FGSM, PGD
from mirst.errors import MirstError
from mirst.evaluation import ModelWarning, evaluate
from tests.helpers import small_cnn, snapshot


def loader(n=14, batch_size=5, classes=2):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(n, 1, 16, 16, generator=generator)
    return DataLoader(TensorDataset(x, torch.arange(n) % classes), batch_size=batch_size)


ATTACKS = {"fgsm": FGSM(), "pgd": PGD(steps=4), "cw": CW(steps=3)}


def test_one_row_per_image_and_attack_clean_first():
    rows = evaluate(small_cnn().eval(), loader(), ATTACKS)
    assert list(rows.columns) == ["image", "label", "attack", "eps", "prediction", "score", "linf"]
    assert rows["attack"].tolist() == [name for name in ("none", *ATTACKS) for _ in range(14)]
    assert rows["image"].tolist() == list(range(14)) * 4
    assert set(rows[rows["attack"] == "none"]["linf"]) == {0.0}
    assert set(rows[rows["attack"] == "none"]["eps"]) == {0.0}


def test_rows_are_recomputed_from_the_attacked_images():
    model, data = small_cnn().eval(), loader(batch_size=14)
    x, y = next(iter(data))
    rows = evaluate(model, data, ATTACKS)
    for name, attack in ATTACKS.items():
        attacked = attack(model, x, y)
        with torch.no_grad():
            logits = model(attacked)
        mine = rows[rows["attack"] == name]
        np.testing.assert_array_equal(mine["prediction"], logits.argmax(1))
        np.testing.assert_allclose(mine["score"], logits[:, 1] - logits[:, 0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mine["linf"], (attacked - x).abs().flatten(1).amax(1))


def test_score_is_the_log_odds_of_the_positive_class():
    model, data = small_cnn(classes=3).eval(), loader(classes=3, batch_size=14)
    x, _ = next(iter(data))
    with torch.no_grad():
        p = model(x).softmax(1)[:, 2].double()
    rows = evaluate(model, data, {}, positive=2)
    np.testing.assert_allclose(rows["score"], torch.log(p / (1 - p)), rtol=1e-4)


def test_the_threshold_moves_the_decision():
    model, data = small_cnn().eval(), loader()
    score = evaluate(model, data, {})["score"]
    middle = float(score.median())
    moved = evaluate(model, data, {}, threshold=middle)
    assert moved["prediction"].tolist() == [int(s > middle) for s in score]
    assert 0 < moved["prediction"].sum() < len(moved)
    with pytest.raises(MirstError, match="two classes, not 3"):
        evaluate(small_cnn(classes=3).eval(), data, {}, threshold=0.5)


def test_the_model_is_left_as_found_and_run_in_eval_mode():
    model = small_cnn().train()
    model[1].eval()
    before = snapshot(model)
    with pytest.warns(ModelWarning, match="train mode"):
        first = evaluate(model, loader(), ATTACKS)
    assert snapshot(model) == before
    assert first.equals(evaluate(model.eval(), loader(), ATTACKS))


def test_random_attacks_repeat_with_the_seed():
    model, attacks = small_cnn().eval(), {"pgd": PGD(steps=1, random_start=True)}
    a, b, c = (evaluate(model, loader(), attacks, seed=seed) for seed in (0, 0, 1))
    assert a.equals(b)
    assert not a.equals(c)


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """Returns what it likes."""

    change: object
    eps: float = 0.1

    def __call__(self, model, x, y, *, generator=None):
        return self.change(x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: (x + 0.2).clamp(0, 1), "returned an image outside its ball"),
        (lambda x: x * 0 - 0.01, r"returned pixels outside \[0, 1\]"),
        (lambda x: x + torch.nan, "not finite"),
        (lambda x: x[:, :, :8], "returned shape"),
    ],
)
def test_an_attack_that_cheats_is_caught(change, words):
    with pytest.raises(RuntimeError, match=words):
        evaluate(small_cnn().eval(), loader(), {"cheat": Cheat(change=change)})


def test_bad_data_get_a_sentence():
    data = DataLoader(TensorDataset(torch.rand(4, 1, 16, 16) * 255, torch.zeros(4, dtype=torch.long)))
    with pytest.raises(MirstError, match="must lie in"):
        evaluate(small_cnn().eval(), data, {})
    with pytest.raises(MirstError, match="no images"):
        evaluate(small_cnn().eval(), [], {})


def test_a_model_without_parameters_can_be_evaluated():
    class Brightness(nn.Module):
        def forward(self, x):
            bright = x.flatten(1).mean(1)
            return torch.stack([0.5 - bright, bright - 0.5], 1)

    rows = evaluate(Brightness(), loader(), {"fgsm": FGSM(eps=0.1)})
    clean, attacked = (rows[rows["attack"] == name] for name in ("none", "fgsm"))
    assert (attacked["prediction"] == attacked["label"]).mean() < (clean["prediction"] == clean["label"]).mean()


WITHOUT_NAMES = [[FGSM()], (FGSM(),), {FGSM()}, FGSM(), "fgsm", iter([FGSM()]), None]


@pytest.mark.parametrize("attacks", WITHOUT_NAMES, ids=lambda value: type(value).__name__)
def test_attacks_without_names_get_a_sentence(attacks, model, batch):
    kind = type(attacks).__name__
    with pytest.raises(MirstError, match=f"attacks must have names, but are of type {kind}; give "):
        evaluate(model, [batch], attacks)


@pytest.mark.parametrize(
    ("attack", "words"),
    [(FGSM, r"is the class FGSM; give FGSM\(\)"), ("fgsm", "is of type str"), (None, "is of type NoneType")],
)
def test_what_is_no_attack_gets_a_sentence(attack, words, model, batch):
    with pytest.raises(MirstError, match=rf"attacks must be attacks such as PGD\(\), but mine {words}"):
        evaluate(model, [batch], {"pgd": PGD(), "mine": attack})


def test_rows_of_more_than_two_classes_have_their_logits():
    model, data = small_cnn(classes=3).eval(), loader(classes=3)
    rows = evaluate(model, data, {"fgsm": FGSM()}, check=False)
    assert list(rows.columns)[-3:] == ["logit_0", "logit_1", "logit_2"]
    with torch.no_grad():
        expected = torch.cat([model(x) for x, _ in data])
    clean = rows[rows["attack"] == "none"][["logit_0", "logit_1", "logit_2"]].to_numpy()
    np.testing.assert_allclose(clean, expected, atol=1e-6)
    assert (rows[["logit_0", "logit_1", "logit_2"]].to_numpy().argmax(1) == rows["prediction"]).all()
