"""One judge: the first largest finite logit at the operating point, wherever an image is judged."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from mirst.attacks import FGSM, PGD
from mirst.errors import MirstError
from mirst.evaluation import ModelWarning, decide, distances, evaluate, evaluate_corruptions, robustness
from mirst.evaluation.judge import WORST, AtThreshold, class_scores, differ, judge, shifted
from mirst.evaluation.worst_case import worst_case
from mirst.metrics import classification_metrics
from mirst.nn.logits import logits_of, misclassified
from tests.helpers import small_cnn

values = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3e38, -3e38, math.nan, math.inf, -math.inf])


class Fixed(nn.Module):
    """Logits by the brightness of an image: row 0 for the darkest."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.as_tensor(rows)

    def forward(self, x):
        return self.rows[(x.mean((1, 2, 3)) * 10).round().long()] + 0 * x.sum((1, 2, 3), keepdim=True).flatten(1)


def images(count):
    return (torch.arange(float(count)) / 10).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def slow_verdict(row, y, positive, threshold):
    """Whether the prediction is right: transcribed for one image."""
    if not all(math.isfinite(z) for z in row):
        return False
    moved = [np.float32(z) - np.float32(threshold if k == positive else 0) for k, z in enumerate(row)]
    return moved.index(max(moved)) == y


@given(st.lists(st.tuples(values, values), min_size=1, max_size=6), st.data())
def test_two_classes_are_judged_alike_by_all(rows, data):
    positive, threshold = data.draw(st.integers(0, 1)), data.draw(st.sampled_from([0.0, 0.5, -1.0]))
    y = torch.tensor(data.draw(st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows))))
    logits = torch.tensor(rows)
    score, prediction = judge(logits, y, positive, threshold)
    right = [slow_verdict(row, int(label), positive, threshold) for row, label in zip(rows, y, strict=True)]
    assert (prediction == y).tolist() == right
    assert (~misclassified(shifted(logits, positive, threshold), y)).tolist() == right
    assert score.isfinite().all()
    finite = logits.isfinite().all(1)
    worst = [-WORST if label == positive else WORST for label in y[~finite].tolist()]
    assert score[~finite].tolist() == worst
    assert (score[finite].abs() < WORST).all()
    moved = AtThreshold(nn.Identity(), positive, threshold)(logits[finite])
    assert torch.equal(moved.argmax(1), decide(logits[finite], positive, threshold)[1])


@pytest.mark.parametrize("positive", [0, 1, 2])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_what_is_not_finite_is_wrong_for_every_class(positive, label):
    logits = torch.tensor([[0.0, 1.0, math.nan], [math.inf, 0.0, 0.0], [0.0, -math.inf, 0.0]])
    score, prediction = judge(logits, torch.full((3,), label), positive, 0.0)
    assert (prediction != label).all()
    assert ((prediction >= 0) & (prediction < 3)).all()
    assert (score == (-WORST if label == positive else WORST)).all()


def test_the_first_largest_logit_decides_a_tie():
    logits = torch.tensor([[1.0, 1.0], [0.0, 0.5]])
    for positive in (0, 1):
        assert decide(logits, positive, 0.0)[1].tolist() == [0, 1]
        assert decide(logits[1:], positive, 0.5 if positive else -0.5)[1].tolist() == [0]
    rows = evaluate(Fixed(logits[:1]), [(images(1), torch.tensor([1]))], {}, check=False)
    assert rows["prediction"].tolist() == [0]
    table, _ = worst_case(Fixed(logits[:1]), [(images(1), torch.tensor([1]))], {"one": {"fgsm": FGSM()}})
    assert table["broken_by"].tolist() == ["none"]
    found = distances(Fixed(logits[:1]), [(images(1), torch.tensor([1]))], check=False)
    assert found.rows["eps"].tolist() == [0.0]


@pytest.mark.parametrize("positive", [0, 1])
def test_some_logits_that_are_not_finite_leave_the_metrics_finite(positive):
    rows = [[1.0, 0.0], [0.0, 1.0], [math.nan, math.nan], [math.nan, 0.0], [0.0, 1.0], [1.0, 0.0]]
    data = [(images(6), torch.tensor([0, 1, 0, 1, 1, 0]))]
    model = Fixed(rows)
    found = evaluate(model, data, {"fgsm": FGSM(eps=0.001)}, positive=positive, check=False)
    table, _ = worst_case(model, data, {"one": {"fgsm": FGSM(eps=0.001)}}, positive=positive)
    for part in (found[found["attack"] == "none"], found[found["attack"] == "fgsm"], table):
        assert (part["label"] == part["prediction"]).tolist() == [True, True, False, False, True, True]
        metrics = classification_metrics(part["label"], part["prediction"], part["score"], [0, 1], positive)
        assert np.isfinite(list(metrics.values())).all()
        assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert distances(model, data, positive=positive, check=False).rows["eps"].tolist()[2:4] == [0.0, 0.0]


CALLS = {
    "evaluate": lambda model, data, positive: evaluate(model, data, {"fgsm": FGSM()}, positive=positive, check=False),
    "worst_case": lambda model, data, positive: worst_case(model, data, {"one": {"fgsm": FGSM()}}, positive=positive),
    "distances": lambda model, data, positive: distances(model, data, positive=positive, check=False),
    "robustness": lambda model, data, positive: robustness(model, data, "paper", positive=positive, check=False),
}


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (lambda z: z[:, :1], "one number per image"),
        (lambda z: z[:, 0], "one number per image"),
        (lambda z: (z, z), "returns a tuple"),
        (lambda z: {"logits": z}, "returns a dict with logits"),
        (lambda z: z[None], "for 4 images"),
        (lambda z: z.long(), "not predictions"),
        (lambda z: z * math.nan, "not finite on any image"),
    ],
    ids=["(N, 1)", "(N,)", "tuple", "dict", "(1, N, K)", "integers", "NaN"],
)
def test_outputs_that_are_no_logits_are_refused_everywhere(outputs, words, call, positive):
    class Wrapped(Fixed):
        def forward(self, x):
            return outputs(super().forward(x))

    data = [(images(4), torch.tensor([0, 1, 0, 1]))]
    with pytest.raises(MirstError) as caught:
        CALLS[call](Wrapped([[1.0, 0.0], [0.0, 1.0]] * 3), data, positive)
    assert words in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("labels", [[0, 1, 0, 5], [0, -1, 0, 1]])
def test_labels_without_a_logit_are_refused_everywhere(call, labels):
    with pytest.raises(MirstError, match="the labels run from"):
        CALLS[call](Fixed([[1.0, 0.0]] * 6), [(images(4), torch.tensor(labels))], 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_images_stay_in_float32_outside_of_the_model(dtype):
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).to(dtype), images(3)
    logits = logits_of(model, x)
    assert logits.dtype in (torch.float32, torch.float64)
    rows = evaluate(model, [(x, torch.tensor([0, 1, 0]))], {"fgsm": FGSM()}, check=False)
    assert (rows["linf"] <= 5 / 255 + 1e-6).all()


def test_a_missing_answer_a_class_or_a_threshold_without_sense_get_a_sentence():
    with pytest.raises(MirstError, match="not finite"):
        decide(torch.tensor([[math.nan, 0.0]]), 1, 0.0)
    with pytest.raises(MirstError, match="positive is 2; the model has the classes 0 to 1"):
        decide(torch.zeros(1, 2), 2, 0.0)
    with pytest.raises(MirstError, match="a threshold needs a model with two classes, not 3"):
        shifted(torch.zeros(1, 3), 1, 0.5)
    with pytest.raises(MirstError, match="must be a finite number"):
        shifted(torch.zeros(1, 2), 1, math.inf)


def test_logits_differ_beyond_rounding_or_where_one_is_not_finite():
    one = torch.tensor([1.0, math.nan])
    assert not differ(one, torch.tensor([1.001, math.nan]), 0.01)
    assert differ(one, torch.tensor([1.1, math.nan]), 0.01)
    assert differ(one, torch.tensor([1.0, 1.0]), 0.01)


class Prior(nn.Module):
    """The same logits for every image, which are a parameter."""

    def __init__(self):
        super().__init__()
        self.prior = nn.Parameter(torch.tensor([0.2, 0.8]))

    def forward(self, x):
        return self.prior.expand(len(x), -1)


@pytest.mark.filterwarnings("ignore::mirst.evaluation.ModelWarning")
def test_a_constant_baseline_is_judged(batch):
    x, y = batch
    rows = evaluate(Prior().eval(), [batch], {"pgd": PGD(steps=2)})
    assert set(rows["prediction"]) == {1}
    assert len(distances(Prior().eval(), [(x, y)]).rows) == len(x)


class OverBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = small_cnn().eval()

    def forward(self, x):
        z = self.body(x)
        return z - z.mean(0)


class NotAlone(OverBatch):
    def forward(self, x):
        assert len(x) > 1
        return self.body(x)


def test_images_that_depend_on_their_batch_are_warned_of(batch):
    with pytest.warns(ModelWarning, match="depends on the other images of the batch"):
        evaluate(OverBatch().eval(), [batch], {})
    with pytest.raises(MirstError, match="fails on a single image"):
        evaluate(NotAlone().eval(), [batch], {})


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.rand(1, 16, 16), label) for label in (0, 1, 0, 1, 1)])


class Once:
    """Has a length, but can be iterated only once."""

    def __init__(self, batches):
        self.batches = iter(batches)

    def __len__(self):
        return 3

    def __iter__(self):
        return self.batches


def test_loaders_that_can_be_iterated_once_are_read_whole(batch):
    model = small_cnn().eval()
    assert len(evaluate(model, DataLoader(Stream(), batch_size=2), {})) == 5
    assert len(evaluate(model, Once([batch, batch]), {})) == 2 * len(batch[0])
    assert len(evaluate(model, (part for part in [batch, batch]), {})) == 2 * len(batch[0])


def test_images_of_two_shapes(batch):
    x, y = batch
    data = [(x, y), (torch.rand(2, 1, 24, 24), y[:2])]
    assert len(evaluate(small_cnn().eval(), data, {})) == len(x) + 2
    with pytest.raises(MirstError, match="have 2 shapes"):
        worst_case(small_cnn().eval(), data, {"s": {"pgd": PGD(steps=1)}})


@pytest.mark.parametrize("name", ["none", ""])
def test_names_that_mean_no_attack_are_refused(name, batch):
    model = small_cnn().eval()
    with pytest.raises(MirstError, match="mean no attack"):
        evaluate(model, [batch], {name: PGD()})
    with pytest.raises(MirstError, match="mean no attack"):
        worst_case(model, [batch], {"s": {name: PGD()}})
    with pytest.raises(MirstError, match="mean no attack"):
        worst_case(model, [batch], {name: {"pgd": PGD()}})
    with pytest.raises(MirstError, match="has no attacks"):
        worst_case(model, [batch], {"s": {}})


@pytest.mark.parametrize("name", ["autoattack", "Paper", "standart"])
def test_an_unknown_suite_is_refused(name, batch):
    with pytest.raises(MirstError, match="there is no suite"):
        robustness(small_cnn().eval(), [batch], name)


def test_corruptions_need_a_logit_for_each_class(batch):
    for classes in (("a", "b", "c"), ("a",)):
        with pytest.raises(MirstError, match="2 logits"):
            evaluate_corruptions(small_cnn().eval(), [batch], classes, "a")
    with pytest.raises(MirstError, match="positive is z"):
        evaluate_corruptions(small_cnn().eval(), [batch], ("a", "b"), "z")


def test_scores_of_the_classes_are_the_log_odds_of_their_probabilities():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    probability = logits.softmax(1)
    found = class_scores(logits, torch.tensor([0, 1, 2, 0, 1]))
    np.testing.assert_allclose(found, (probability / (1 - probability)).log())
    score, _ = judge(logits, torch.zeros(5, dtype=torch.long), 2, 0.0)
    assert torch.equal(score, found[:, 2])


def test_an_image_without_finite_logits_has_the_worst_score_of_every_class():
    logits = torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, 2.0]])
    found = class_scores(logits, torch.tensor([2, 2]))
    assert found[0].tolist() == [WORST, WORST, -WORST]
    assert found[1].isfinite().all()


def test_rows_of_more_than_two_classes_have_a_score_of_each():
    for classes, expected in ((2, []), (3, ["score:0", "score:1", "score:2"])):
        batch = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 1, 0])
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, classes)).eval()
        rows = evaluate(model, [batch], {"fgsm": FGSM()}, check=False)
        stages, _ = worst_case(model, [batch], {"weak": {"fgsm": FGSM()}})
        for table in (rows, stages):
            assert [name for name in table if name.startswith("score:")] == expected
        if expected:
            np.testing.assert_array_equal(rows["score"], rows["score:1"])
