import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, norm, t
from sklearn.metrics import f1_score, recall_score

from mirst.errors import MirstError
from mirst.evaluation import METRICS, classification_metrics, holm, interval, paired_difference, unpaired_difference

CLASSES = ("benign", "malignant")
THREE = ("benign", "malignant", "normal")


def rows(n=200, groups=None, accuracy=0.7, seed=0, classes=CLASSES):
    labels = np.random.default_rng(99).integers(0, len(classes), n)
    wrong = np.random.default_rng(seed).random(n) > accuracy
    names = np.array(classes)
    answers = names[np.where(wrong, (labels + 1) % len(classes), labels)]
    return pd.DataFrame(
        {
            "source": "s",
            "image": [f"{i}.png" for i in range(n)],
            "seed": 0,
            "group": [f"g{i % (groups or n)}" for i in range(n)],
            "label": names[labels],
            "prediction": answers,
            "score": (answers == "malignant") + np.random.default_rng([seed, 1]).normal(size=n),
        }
    )


def by_hand(table, metric):
    """Value and interval of two classes, written out group by group."""
    hit, whole = {}, {}
    for group, truth, answer in zip(table.group, table.label, table.prediction, strict=True):
        counts = {
            "accuracy": True,
            "sensitivity": truth == "malignant",
            "specificity": truth == "benign",
            "f1": "malignant" in (truth, answer),
        }[metric]
        hit[group] = hit.get(group, 0) + (counts and truth == answer)
        whole[group] = whole.get(group, 0) + counts
    n = sum(whole.values())
    p = sum(hit.values()) / n
    used = [g for g in whole if whole[g]]
    df = len({g for g, truth in zip(table.group, table.label, strict=True) if truth == "malignant"}) - 1
    if metric != "f1":
        df = len(used) - 1
    variance = (df + 1) / df * sum(((hit[g] - p * whole[g]) / n) ** 2 for g in used)
    size = min(p * (1 - p) / variance, n) * (norm.ppf(0.975) / t.ppf(0.975, df)) ** 2
    size = max(size, n**2 / sum(whole[g] ** 2 for g in used))
    ends = beta.ppf(0.025, p * size, (1 - p) * size + 1), beta.ppf(0.975, p * size + 1, (1 - p) * size)
    return [2 * x / (1 + x) if metric == "f1" else x for x in (p, *ends)]


@pytest.mark.parametrize("metric", ["f1", "sensitivity", "specificity", "accuracy"])
@pytest.mark.parametrize("groups", [200, 60, 12])
@pytest.mark.parametrize("accuracy", [0.1, 0.5, 0.9])
def test_an_interval_equals_a_slow_transcription(metric, groups, accuracy):
    table = rows(groups=groups, accuracy=accuracy, seed=3)
    found = interval(table, CLASSES, "malignant", metric)
    assert [found.value, found.low, found.high] == pytest.approx(by_hand(table, metric))


def test_the_spread_of_auc_is_that_of_delong():
    """Without groups; the variance from the placements of each side (DeLong et al. 1988)."""
    table = rows(groups=200, seed=4)
    high, low = (table.score[table.label == name].to_numpy() for name in ("malignant", "benign"))
    wins = (high[:, None] > low[None]).astype(float)
    auc = wins.mean()
    m, n = wins.shape
    variance = wins.mean(1).var() / m + wins.mean(0).var() / n  # each with n / (n - 1) of the smaller side below
    df = min(m, n) - 1
    size = auc * (1 - auc) / (variance * (df + 1) / df) * (norm.ppf(0.975) / t.ppf(0.975, df)) ** 2
    found = interval(table, CLASSES, "malignant", "auc")
    ends = beta.ppf(0.025, auc * size, (1 - auc) * size + 1), beta.ppf(0.975, auc * size + 1, (1 - auc) * size)
    assert [found.value, found.low, found.high] == pytest.approx([auc, *ends])


@pytest.mark.parametrize("hits", [0, 100])
def test_none_or_all_of_100_images_is_exactly_clopper_and_pearson(hits):
    table = rows(100, accuracy=1.0).assign(label="malignant", prediction="malignant" if hits else "benign")
    found = interval(table, CLASSES, "malignant", "sensitivity")
    exact = binomtest(hits, 100).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert str(found) == ("1.000 [0.964, 1.000]" if hits else "0.000 [0.000, 0.036]")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [CLASSES, THREE])
@pytest.mark.parametrize("answers", ["right", "wrong", "benign", "malignant", "mixed"])
@pytest.mark.parametrize("groups", [1, 2, 20, 60])
def test_no_interval_is_of_zero_width_or_leaves_0_to_1(metric, classes, answers, groups):
    table = rows(60, groups, {"right": 1.0, "wrong": 0.0}.get(answers, 0.6), classes=classes)
    if answers in classes:
        table["prediction"] = answers
    table["score"] = np.where(table["prediction"] == "malignant", 1.0, -1.0)
    found = interval(table, classes, "malignant", metric)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.high - found.low > 0.02
    same = paired_difference(table, table, classes, "malignant", metric)
    assert same.value == 0
    assert -1 <= same.low < -0.01
    assert 0.01 < same.high <= 1
    assert same.p == 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("classes", [CLASSES, THREE, ("a", "b", "malignant", "c")])
def test_the_value_is_that_of_the_tables(metric, classes):
    """Macro with more than two classes, and of one model."""
    a, b = rows(seed=1, classes=classes), rows(seed=2, accuracy=0.9, classes=classes)
    of = [classification_metrics(x["label"], x["prediction"], x["score"], classes, "malignant")[metric] for x in (a, b)]
    assert interval(a, classes, "malignant", metric).value == pytest.approx(of[0])
    found = paired_difference(a, b.sample(frac=1, random_state=0), classes, "malignant", metric)
    assert found.value == pytest.approx(of[1] - of[0])
    assert found.low < found.value < found.high


def test_a_macro_interval_covers_the_true_value():
    """Three classes, each answered rightly with probability 0.7, else as the next class: F1 is 0.7 of each."""
    hits = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 3, 120)
        answer = np.where(rng.random(120) < 0.7, label, (label + 1) % 3)
        table = rows(120, classes=THREE).assign(label=np.array(THREE)[label], prediction=np.array(THREE)[answer])
        found = interval(table, THREE, "malignant", "f1")
        hits += found.low <= 0.7 <= found.high
        assert found.high - found.low < 0.25
    assert hits / 150 >= 0.93


def test_auc_compares_the_scores_of_one_model_only():
    """Each model ranks perfectly; the second's scores all lie above the first's."""
    label = ["benign", "malignant"] * 10
    tables = [
        rows(20).assign(
            label=label, fold=fold, score=[10 * fold, 10 * fold + 1] * 10, image=[f"{fold}-{i}" for i in range(20)]
        )
        for fold in range(2)
    ]
    pooled = pd.concat(tables)
    assert interval(pooled, CLASSES, "malignant", "auc", of_model=["fold", "seed"]).value == 1
    assert interval(pooled, CLASSES, "malignant", "auc").value == 0.75


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_answers_under_more_seeds_are_no_more_images(metric):
    table = rows(60, seed=5)
    seeds = pd.concat([table.assign(seed=seed) for seed in range(3)], ignore_index=True)
    one, three = (interval(x, CLASSES, "malignant", metric) for x in (table, seeds))
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_fewer_groups_mean_a_wider_interval(metric):
    """Copies of 20 images are 20 images."""
    a, b = rows(20, seed=1), rows(20, seed=5)
    copies = [pd.concat([x.assign(image=x["image"] + f"-{c}") for c in range(10)], ignore_index=True) for x in (a, b)]
    one, ten = (paired_difference(*pair, CLASSES, "malignant", metric) for pair in ((a, b), copies))
    assert ten.high - ten.low == pytest.approx(one.high - one.low, rel=0.05)
    apart = [x.assign(group=x["image"]) for x in copies]
    loose = paired_difference(*apart, CLASSES, "malignant", metric)
    assert loose.high - loose.low < 0.6 * (one.high - one.low)


@pytest.mark.parametrize(
    ("label", "undefined"),
    [("benign", {"f1", "sensitivity", "auc"}), ("malignant", {"specificity", "auc"})],
)
def test_of_an_undefined_metric_there_is_no_interval(label, undefined):
    table = rows(30).assign(label=label)
    known = ("f1", "sensitivity", "specificity", "auc", "accuracy")
    found = {metric for metric in known if str(interval(table, CLASSES, "malignant", metric)) == "undefined"}
    assert found == undefined
    for metric in undefined:
        difference = paired_difference(table, table, CLASSES, "malignant", metric)
        assert (str(difference), difference.p) == ("undefined", 1)


whatever = st.lists(
    st.tuples(
        st.sampled_from(CLASSES),
        st.sampled_from([*CLASSES, np.nan]),
        st.sampled_from([*CLASSES, np.nan]),
        st.floats(allow_nan=True),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(whatever)
def test_whatever_the_rows_intervals_are_finite_and_bounded(drawn):
    label, first, second, score, group = zip(*drawn, strict=True)
    table = pd.DataFrame({"source": "s", "image": range(len(drawn)), "seed": 0, "group": group, "label": label})
    a, b = (table.assign(prediction=answers, score=score) for answers in (first, second))
    for metric in METRICS:
        one, gain = interval(a, CLASSES, "malignant", metric), paired_difference(a, b, CLASSES, "malignant", metric)
        if np.isnan(one.value):
            assert np.isnan(gain.value)
            continue
        assert 0 <= one.low <= one.value <= one.high <= 1
        assert one.high > one.low
        assert -1 <= gain.low <= gain.value <= gain.high <= 1
        assert gain.high > gain.low
        assert 0 < gain.p <= 1


def test_the_value_is_the_difference_of_the_pooled_metrics():
    a, b = rows(seed=1), rows(seed=2, accuracy=0.9)
    for metric, function in (("f1", f1_score), ("sensitivity", recall_score)):
        expected = function(b.label, b.prediction, pos_label="malignant") - function(
            a.label, a.prediction, pos_label="malignant"
        )
        found = paired_difference(a, b.sample(frac=1, random_state=0), CLASSES, "malignant", metric)
        assert found.value == pytest.approx(expected)


def test_a_paired_difference_is_narrower_where_the_answers_go_together():
    a = rows(seed=1)
    near = a.assign(prediction=a["prediction"].where(np.arange(len(a)) > 10, rows(seed=7)["prediction"]))
    close, apart = (paired_difference(a, b, CLASSES, "malignant") for b in (near, rows(seed=2)))
    assert close.high - close.low < 0.6 * (apart.high - apart.low)


def test_the_difference_covers_the_truth_about_as_often_as_it_says():
    """Two equally good models: the true difference is 0."""
    found = [
        paired_difference(rows(seed=2 * seed + 1), rows(seed=2 * seed + 2), CLASSES, "malignant") for seed in range(200)
    ]
    assert 0.93 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.995
    assert np.mean([one.p < 0.05 for one in found]) <= 0.07


def test_other_images_get_a_sentence():
    with pytest.raises(MirstError, match="same images"):
        paired_difference(rows(20), rows(21), CLASSES, "malignant")
    with pytest.raises(MirstError, match="same images"):
        paired_difference(rows(20), rows(20).assign(label="benign"), CLASSES, "malignant")


@pytest.mark.parametrize("metric", METRICS)
def test_p_is_small_exactly_where_the_interval_leaves_out_0(metric):
    for seed in range(12):
        for accuracy in (0.7, 0.8, 0.95):
            a, b = rows(seed=seed), rows(seed=100 + seed, accuracy=accuracy)
            found = paired_difference(a, b, CLASSES, "malignant", metric)
            assert (found.low <= 0 <= found.high) == (found.p >= 0.05)
            back = paired_difference(b, a, CLASSES, "malignant", metric)
            assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
            assert back.p == pytest.approx(found.p)


def test_holm_by_hand():
    """The smallest times 4, the next times 3 ..., never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def resampled(side, metric, rng):
    """The metric of 4000 samples of the groups with replacement."""
    truth, answer = side["label"] == "malignant", side["prediction"] == "malignant"
    hit, counted = {
        "accuracy": (truth == answer, truth | True),
        "sensitivity": (truth & answer, truth),
        "f1": (truth & answer, (truth.astype(int) + answer) / 2),
    }[metric]
    sums = pd.DataFrame({"hit": hit, "counted": counted}).groupby(side["group"]).sum().to_numpy(float)
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), 4000) @ sums
    return drawn[:, 0] / drawn[:, 1]


@pytest.mark.parametrize("metric", ["accuracy", "sensitivity", "f1"])
def test_an_unpaired_difference_agrees_with_resampling_the_groups_of_both_sides(metric):
    first, second = rows(480, groups=160, accuracy=0.8), rows(600, groups=150, accuracy=0.65, seed=1)
    rng = np.random.default_rng(0)
    low, high = np.quantile(resampled(second, metric, rng) - resampled(first, metric, rng), [0.025, 0.975])
    found = unpaired_difference(first, second, CLASSES, "malignant", metric)
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)
    assert (found.p < 0.05) == (found.high < 0)


def test_an_unpaired_difference_is_wider_than_either_side_and_turns_its_sign():
    first, second = rows(150, groups=50), rows(90, groups=45, accuracy=0.9, seed=2)
    found = unpaired_difference(first, second, CLASSES, "malignant")
    back = unpaired_difference(second, first, CLASSES, "malignant")
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    sides = [interval(side, CLASSES, "malignant") for side in (first, second)]
    assert found.value == pytest.approx(sides[1].value - sides[0].value)
    assert found.high - found.low > max(one.high - one.low for one in sides)
