from dataclasses import dataclass, field

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mirst.attacks import CW, FGSM, PGD, Attack
from mirst.errors import MirstError
from mirst.evaluation import evaluate
from mirst.evaluation.worst_case import worst_case
from tests.helpers import on_the_fence, small_cnn, snapshot

ATTACKS = {"fgsm": FGSM(eps=0.03), "pgd": PGD(eps=0.03, steps=8, step_size=0.01), "cw": CW(eps=0.03)}


def loader(n=40, batch_size=16):
    x = torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, torch.arange(n) % 2), batch_size=batch_size)


@pytest.fixture
def model():
    ((x, _),) = loader(batch_size=40)
    return on_the_fence(small_cnn(), x)


def test_an_image_is_broken_where_any_attack_breaks_it(model):
    single = evaluate(model, loader(), ATTACKS)
    single["wrong"] = single["label"] != single["prediction"]
    rows, _ = worst_case(model, loader(), {"all": ATTACKS})
    broken = (rows["label"] != rows["prediction"]).to_numpy()
    assert broken.tolist() == single.groupby("image")["wrong"].any().tolist()
    first = single[single["wrong"]].groupby("image")["attack"].first()
    assert rows.loc[broken, "broken_by"].tolist() == first.tolist()
    assert set(rows.loc[~broken, "broken_by"]) == {""}
    assert {"none", "fgsm"} < set(rows["broken_by"])
    assert rows["attack"].unique().tolist() == ["all"]


def test_a_robust_image_has_the_score_of_the_nearest_attack(model):
    single = evaluate(model, loader(), ATTACKS)
    rows, _ = worst_case(model, loader(), {"all": ATTACKS})
    robust = rows[rows["broken_by"] == ""].to_dict("records")
    assert len(robust) > 0
    for row in robust:
        scores = single.loc[single["image"] == row["image"], "score"]
        assert row["score"] == pytest.approx(scores.min() if row["label"] == 1 else scores.max(), abs=1e-5)


@dataclass(frozen=True)
class Counted:
    attack: Attack
    seen: list = field(default_factory=list)

    @property
    def eps(self):
        return self.attack.eps

    def __call__(self, model, x, y, *, generator=None):
        self.seen.append(len(x))
        return self.attack(model, x, y, generator=generator)


def test_a_misclassified_image_is_not_attacked_again(model):
    counted = {name: Counted(attack) for name, attack in ATTACKS.items()}
    rows, costs = worst_case(model, loader(), {"all": counted})
    left = int((rows["broken_by"] != "none").sum())
    assert costs["attack"].tolist() == list(ATTACKS)
    for row in costs.to_dict("records"):
        assert sum(counted[row["attack"]].seen) == row["images"] == left
        assert row["broken"] == (rows["broken_by"] == row["attack"]).sum()
        assert row["seconds"] > 0
        left -= row["broken"]
    assert left == (rows["broken_by"] == "").sum() > 0


def test_stages_go_on_from_one_another(model):
    first, second = {"fgsm": ATTACKS["fgsm"]}, {name: ATTACKS[name] for name in ("pgd", "cw")}
    rows, costs = worst_case(model, loader(), {"weak": first, "strong": second})
    weak, _ = worst_case(model, loader(), {"weak": first})
    both, _ = worst_case(model, loader(), {"strong": ATTACKS})
    assert rows[rows["attack"] == "weak"].reset_index(drop=True).equals(weak)
    assert rows[rows["attack"] == "strong"].reset_index(drop=True).equals(both)
    assert costs["suite"].tolist() == ["weak", "strong", "strong"]


def test_attacks_aim_at_the_operating_point(model):
    """An attack that aimed at the argmax, far away, would break other images than those that the threshold decides."""
    clean = evaluate(model, loader(), {})
    threshold = float(clean["score"].quantile(0.8))
    rows, _ = worst_case(model, loader(), {"all": {"pgd": PGD(eps=0.02)}}, threshold=threshold)
    positive = rows["prediction"] == 1
    assert (rows["score"] > threshold).tolist() == positive.tolist()
    moved = rows["score"] - clean["score"]
    assert (moved[rows["label"] == 1] <= 1e-6).all()
    assert (moved[rows["label"] == 0] >= -1e-6).all()
    assert {"none", "pgd", ""} == set(rows["broken_by"])


def test_the_model_is_left_as_found_and_runs_repeat():
    model = small_cnn().train()
    model[1].eval()
    before = snapshot(model)
    attacks = {"pgd": PGD(steps=2, random_start=True)}
    a, b, c = (worst_case(model, loader(), {"all": attacks}, threshold=0.1, seed=seed)[0] for seed in (0, 0, 1))
    assert snapshot(model) == before
    assert a.equals(b)
    assert not a.equals(c)


def test_a_cheat_is_caught_and_no_images_get_a_sentence(model):
    @dataclass(frozen=True)
    class Cheat:
        eps: float = 0.1

        def __call__(self, model, x, y, *, generator=None):
            return (x + 0.2).clamp(0, 1)

    with pytest.raises(RuntimeError, match="returned an image outside its ball"):
        worst_case(model, loader(), {"all": {"cheat": Cheat()}})
    with pytest.raises(MirstError, match="no images"):
        worst_case(model, [], {"all": ATTACKS})


@pytest.mark.parametrize("stages", [[FGSM()], [("all", ATTACKS)], FGSM(), None], ids=lambda value: type(value).__name__)
def test_stages_without_names_get_a_sentence(stages, model):
    with pytest.raises(MirstError, match=f"stages must have names, but are of type {type(stages).__name__}; give "):
        worst_case(model, loader(), stages)


@pytest.mark.parametrize("attacks", [[FGSM()], (FGSM(),), FGSM(), None], ids=lambda value: type(value).__name__)
def test_attacks_of_a_stage_without_names_get_a_sentence(attacks, model):
    kind = type(attacks).__name__
    with pytest.raises(MirstError, match=f"the attacks of stage weak must have names, but are of type {kind}"):
        worst_case(model, loader(), {"all": ATTACKS, "weak": attacks})
