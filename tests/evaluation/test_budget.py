from dataclasses import replace

import pytest

from mirst.attacks import APGD, FGSM, PGD, Transfer
from mirst.evaluation.budget import reach, unwrapped, weak_budget
from mirst.evaluation.masking.suite_checks import budget
from tests.helpers import small_cnn

STRONG = APGD()
"""An attack that chooses its own steps, without which the suite is too weak by itself."""


@pytest.mark.parametrize("gray_levels", range(1, 17))
def test_n_steps_of_eps_over_n_reach_the_edge_and_one_step_fewer_does_not(gray_levels):
    """Whatever the rounding of `n * (eps / n)`; one rule for the note of a report and the masking check."""
    eps, flagged = gray_levels / 255, []
    for steps in range(2, 201):
        enough = PGD(eps=eps, steps=steps, step_size=eps / steps)
        fewer = replace(enough, steps=steps - 1)
        assert weak_budget("pgd", enough) is None
        assert reach(enough) == 1
        assert budget({"pgd": enough, "apgd": STRONG}).verdict == "pass"
        flagged.append(weak_budget("pgd", fewer) is not None and budget({"pgd": fewer, "apgd": STRONG}).verdict)
    assert flagged == ["suspect"] * 199


def test_a_step_size_in_gray_levels_reaches_the_edge():
    assert weak_budget("pgd", PGD(eps=3 / 255, steps=19, step_size=3 / 19 / 255)) is None


def test_attacks_without_a_fixed_step_length_have_no_budget():
    assert [reach(attack) for attack in (APGD(), FGSM(), PGD(eps=0.0))] == [None] * 3


def test_an_attack_inside_another_one_is_reached():
    inner = PGD()
    assert list(unwrapped(Transfer(source_model=small_cnn(), attack=inner)))[1:] == [inner]
