from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mirst.report import paper_comparison
from mirst.report.paper import ATTACKS, CLAIMS, COLUMNS, Claim
from mirst.report.paper_claims import judge
from mirst.study import read_results
from mirst.study.summary import summarise

IMAGES = 300
NAMES = np.array(["benign", "malignant"])


def planted(results, accuracy, seeds=(0, 1)):
    """The results with other columns: each defense answers so many images rightly, under every attack."""
    labels = np.random.default_rng(99).integers(0, 2, IMAGES)
    rows = []
    for number, (name, share) in enumerate(accuracy.items()):
        for seed in seeds:
            for attack in ATTACKS:
                wrong = np.random.default_rng([number, seed]).random(IMAGES) > share
                rows.append(
                    pd.DataFrame(
                        {
                            "defense": name.removesuffix("+dm"),
                            "drop_max": name.endswith("+dm"),
                            "fold": np.arange(IMAGES) % 2,
                            "seed": seed,
                            "source": "s",
                            "image": [f"{i}.png" for i in range(IMAGES)],
                            "group": [f"g{i}" for i in range(IMAGES)],
                            "label": NAMES[labels],
                            "attack": attack,
                            "eps": 5 / 255,
                            "prediction": NAMES[np.where(wrong, 1 - labels, labels)],
                            "score": 0.0,
                        }
                    )
                )
    outcomes = pd.concat(rows, ignore_index=True)
    defenses = [{"name": name.removesuffix("+dm"), "drop_max": name.endswith("+dm")} for name in accuracy]
    spec = results.spec.model_validate(results.spec.resolved() | {"defenses": defenses, "attacks": list(ATTACKS[1:])})
    summary = summarise(outcomes, ("benign", "malignant"), "malignant")
    return replace(results, spec=spec, outcomes=outcomes, summary=summary)


@pytest.fixture
def results(finished):
    return read_results(finished)


def claim(**changes):
    return replace(Claim("MIRST beats RST", (1, "mirst"), (1, "rst"), ("pgd",)), **changes)


@pytest.mark.parametrize(
    ("kind", "mirst", "rst", "verdict"),
    [
        ("higher", 0.9, 0.6, "upheld"),
        ("higher", 0.6, 0.9, "reversed"),
        ("higher", 0.75, 0.75, "not significant"),
        ("not worse", 0.9, 0.6, "upheld"),
        ("not worse", 0.5, 0.9, "reversed"),
        ("not worse", 0.70, 0.75, "not significant"),
    ],
)
def test_planted_differences_get_their_verdict(kind, mirst, rst, verdict, results):
    found = judge(claim(kind=kind), "pgd", {1: planted(results, {"rst": rst, "mirst": mirst})})
    assert found.verdict == verdict
    assert found.measured.low <= found.measured.value <= found.measured.high
    assert found.measured.value == pytest.approx(np.mean(found.seeds), abs=0.02)
    assert len(found.seeds) == 2
    assert found.paper == pytest.approx(0.516 - 0.496)


def test_what_cannot_be_judged_is_named(results):
    tables = {1: planted(results, {"rst": 0.6, "mirst": 0.9})}
    found = judge(claim(), "cw", tables)
    assert found.verdict == "not comparable"
    assert "the first ten steps of PGD" in found.reason
    assert found.measured.value > 0
    assert judge(claim(better=(2, "mirst")), "pgd", tables).reason == "Table 2 was not measured"
    assert judge(claim(other=(1, "ce")), "pgd", tables).reason == f"{results.folder.name} has no column ce"
    failed = pd.DataFrame([{"defense": "rst", "drop_max": False, "fold": 0, "seed": 0, "reason": "nan"}])
    assert judge(claim(), "pgd", {1: replace(tables[1], failed=failed)}).reason == "rst failed"


def test_other_images_or_seeds_are_not_comparable(results):
    one, two = planted(results, {"mirst": 0.9}), planted(results, {"mirst": 0.9}, seeds=(0,))
    found = judge(claim(other=(2, "mirst")), "pgd", {1: one, 2: two})
    assert (found.verdict, found.measured, found.seeds) == ("not comparable", None, ())
    name = results.folder.name
    assert found.reason == f"{name} and {name} were not measured on the same images, labels and seeds"


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "cw"])
def test_a_study_without_an_attack_or_a_column_is_compared_as_far_as_it_goes(results, attack):
    whole = planted(results, {"ce": 0.5, "rst": 0.6, "mirst": 0.9})
    kept = [entry for entry in whole.spec.attacks if entry.label != attack]
    without = replace(
        whole,
        spec=whole.spec.model_copy(update={"attacks": kept}),
        outcomes=whole.outcomes[whole.outcomes["attack"] != attack],
        summary=whole.summary[whole.summary["attack"] != attack],
    )
    found = judge(claim(), attack, {1: without})
    assert (found.verdict, found.reason) == ("not comparable", f"{results.folder.name} has no attack {attack}")
    lines = paper_comparison({1: without, 2: without}).splitlines()
    assert not any(f"| {attack} |" in line and "[+" in line for line in lines)
    assert any("| none |" in line and "upheld" in line for line in lines)
    of_table_3 = sum(len(one.attacks) for one in CLAIMS if 3 in (one.better[0], one.other[0]))
    assert sum("(Table 3 was not measured)" in line for line in lines) == of_table_3


def test_the_comparison_holds_every_column_and_every_claim(results):
    columns = {table: [c.defense for c in COLUMNS if c.table == table] for table in (1, 2, 3)}
    tables = {table: planted(results, dict.fromkeys(names, 0.8)) for table, names in columns.items()}
    text = paper_comparison(tables)
    for table in columns:
        assert f"## Table {table}" in text
    assert "| F1 score | pgd | 0.000 / 0." in text
    assert sum(line.startswith("| ") and line.endswith("|") for line in text.splitlines()) > 3 * 9
    judged = [line for line in text.splitlines() if (line.endswith("|") and "[+" in line) or "[-" in line]
    assert len(judged) == sum(len(one.attacks) for one in CLAIMS)
    assert "(shown by the paper's tables, but contrary to its text)" in text
    assert "not comparable[^cw]" in text


def test_every_claim_names_printed_columns():
    there = {(column.table, column.defense) for column in COLUMNS}
    assert all({one.better, one.other} <= there for one in CLAIMS)


def test_the_allowed_loss_is_for_the_claims_that_the_comparison_describes(results):
    described = [one for one in CLAIMS if "comparably" in one.text or "does not" in one.text]
    assert described
    assert described == [one for one in CLAIMS if one.kind == "not worse"]
    text = paper_comparison({1: planted(results, {"mirst": 0.9})})
    assert 'Claims that say "comparably" or "does not" allow a loss of 0.05' in text
