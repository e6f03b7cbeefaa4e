import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mirst.thresholds import roc_curve

SCORES = st.lists(st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.1, 1 / 3, 7.0]) | st.floats(-1e6, 1e6), min_size=1)


@given(SCORES, SCORES)
def test_a_roc_curve_is_that_of_scikit_learn_to_the_last_bit(negatives, positives):
    truth = np.arange(len(negatives) + len(positives)) >= len(negatives)
    score = np.array(negatives + positives)
    order = np.random.default_rng(len(score)).permutation(len(score))
    expected = metrics.roc_curve(truth[order], score[order], drop_intermediate=False)
    for ours, theirs in zip(roc_curve(truth[order], score[order]), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
