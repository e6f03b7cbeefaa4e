import dataclasses
from dataclasses import dataclass

import pytest
import torch

from mirst.defenses import CE, DEFENSES, MIRST, RST, BaseDefense, DefenseWrapper, LossTerms
from mirst.errors import MirstError
from mirst.training import SimCLR, Training, fit
from tests.contracts.test_defenses import CERTIFIED
from tests.helpers import small_cnn

BALANCED = (8 / 12, 8 / 4)


@dataclass(frozen=True, kw_only=True)
class Doubled(DefenseWrapper):
    """Twice the loss of another defense."""

    inner: object = RST(steps=2)

    def __call__(self, model, x, y, *, generator=None):
        total, terms = self.inner(model, x, y, generator=generator)
        return LossTerms(2 * total, terms)


@dataclass(frozen=True, kw_only=True)
class Spy(RST):
    """Notes the eps and the class weights that it is called with; its warm-up is plain training."""

    seen = []  # noqa: RUF012 - no field

    def __call__(self, model, x, y, *, generator=None):
        self.seen.append((self.eps, self.class_weights))
        return super().__call__(model, x, y, generator=generator)


@pytest.mark.parametrize("wrap", [lambda inner: inner, lambda inner: Doubled(inner=inner)], ids=["bare", "wrapped"])
def test_warm_up_ramp_class_weights_and_selection_reach_a_wrapped_defense(wrap, monkeypatch):
    Spy.seen.clear()
    data = [(torch.rand(8, 1, 16, 16), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]))]
    settings = Training(epochs=5, warmup=0.2, ramp=0.4, select="best_robust")
    result = fit(small_cnn(), data, wrap(Spy(eps=0.1, steps=1)), val=data, settings=settings)
    assert [eps for eps, _ in Spy.seen] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])  # none in the warm-up
    assert all(weights == pytest.approx(BALANCED) for _, weights in Spy.seen)
    assert [epoch.eps_share for epoch in result.history] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert [epoch.attacked is not None for epoch in result.history] == [False, False, False, True, True]


def test_a_wrapper_trains_as_its_definition_says():
    """Adam's steps do not depend on the scale of the loss, up to its epsilon."""
    data = [(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(k)), torch.arange(8) % 2) for k in (1, 2)]
    bare, wrapped = small_cnn(), small_cnn()
    one = fit(bare, data, RST(steps=2), settings=Training(epochs=2))
    two = fit(wrapped, data, Doubled(), settings=Training(epochs=2))
    assert two.history[0].loss == pytest.approx(2 * one.history[0].loss, rel=1e-3)
    assert two.history[0].terms["clean"] == pytest.approx(one.history[0].terms["clean"], rel=1e-3)


def test_a_wrapper_has_the_eps_of_what_it_wraps():
    assert Doubled(inner=Doubled(inner=RST(eps=0.3))).eps == 0.3
    assert not hasattr(Doubled(inner=CE()), "eps")
    assert Doubled(inner=SimCLR()).uses_labels is False


@pytest.mark.parametrize("name", DEFENSES)
def test_every_defense_declares_both(name):
    defense = DEFENSES[name]()
    assert defense.at_eps_share(1.0) == defense
    weighted = defense.with_class_weights((1.0, 2.0))
    assert weighted == dataclasses.replace(defense, class_weights=(1.0, 2.0))
    assert weighted.with_class_weights((5.0, 5.0)) == weighted
    if hasattr(defense, "eps"):
        assert weighted.at_eps_share(0.0) == CE(class_weights=(1.0, 2.0))
        ramp = {"eps_share": 0.5} if name in CERTIFIED else {}
        assert weighted.at_eps_share(0.5) == dataclasses.replace(weighted, eps=defense.eps / 2, **ramp)
    else:
        assert weighted.at_eps_share(0.0) == weighted.at_eps_share(0.5) == weighted


def test_a_step_size_shrinks_with_eps():
    assert MIRST(eps=0.2, step_size=0.04).at_eps_share(0.25) == MIRST(eps=0.05, step_size=0.01)


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """A wrapper of earlier versions: it lost warm-up and class weights."""

    inner: RST = RST()  # noqa: RUF009 - it is frozen

    def __call__(self, model, x, y, *, generator=None):
        return self.inner(model, x, y, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Unweighted(BaseDefense):
    inner: RST = RST()  # noqa: RUF009 - it is frozen

    def __call__(self, model, x, y, *, generator=None):
        return self.inner(model, x, y, generator=generator)


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (
            Undeclared(),
            "the defense Undeclared has no at_eps_share; derive it from mirst.defenses.BaseDefense, or from",
        ),
        (Doubled(inner=Undeclared()), "the defense Undeclared has no at_eps_share"),
        (Unweighted(), "the defense Unweighted has no field class_weights; add it, or derive the defense from"),
        (lambda model, x, y: None, "the defense function has no at_eps_share"),
    ],
)
def test_a_defense_that_declares_nothing_is_refused_in_a_sentence(defense, words, batch):
    with pytest.raises(MirstError, match=words):
        fit(small_cnn(), [batch], defense, settings=Training(epochs=1))
