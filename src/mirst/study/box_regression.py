"""What the box of a lesion says alone: logistic regression on its two features."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirst.box_code import quantised
from mirst.errors import MirstError
from mirst.nn.box_fusion import BoxRegression
from mirst.study.prepared import Prepared


def fit_box(features: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> BoxRegression:
    """Logistic regression of the positive class on the standardised features; both classes weigh alike.

    Args:
        features: `(N, 2)` log aspect and log area of training images alone; rows with NaN are left out.
        positive: `(N,)`, whether the class is the positive one.

    Raises:
        MirstError: boxes of images of one class only.

    >>> features = np.array([[-0.4, -3.0], [-0.2, -2.5], [0.3, -1.5], [0.1, -1.8]])
    >>> fitted = fit_box(features, np.array([False, False, True, True]))
    >>> [round(value, 3) for value in fitted.mean], fitted.weight[0] > 0 and fitted.weight[1] > 0
    ([-0.05, -2.2], True)
    """
    known = ~np.isnan(features).any(axis=1)
    own, labels = quantised(torch.from_numpy(features[known])).numpy().astype(np.float64), positive[known]
    if len(np.unique(labels)) < 2:
        raise MirstError(
            f"model.box: fused needs boxes of both classes in every training fold, but {labels.sum()} of the "
            f"{len(labels)} images with a box are of the positive class; add boxes, or set model.box: none"
        )
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(own)
    fitted = LogisticRegression(class_weight="balanced").fit(scaler.transform(own), labels)
    return BoxRegression(_pair(scaler.mean_), _pair(scaler.scale_), _pair(fitted.coef_[0]), float(fitted.intercept_[0]))


def box_regression(prepared: Prepared, indices: NDArray[np.int64]) -> BoxRegression:
    """`fit_box` on the records at `indices`.

    Raises:
        MirstError: boxes of one class only.
    """
    assert prepared.box_features is not None  # a study with a fused box has the lesion view
    positive = prepared.labels[indices] == prepared.positive_index
    return fit_box(prepared.box_features[indices], positive)


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])
