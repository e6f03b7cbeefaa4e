"""What a frozen backbone is worth: a linear classifier on its features, cross-validated."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from mirst.data import data_loader
from mirst.metrics import classification_metrics
from mirst.nn import replace_head
from mirst.nn.device import default_device
from mirst.study.initial_model import channels_of, initial_model
from mirst.study.prepared import EVALUATION_BATCH, Prepared, prepare
from mirst.study.spec import StudySpec


def probe(spec: StudySpec) -> pd.DataFrame:
    """Logistic regression on the features of `spec.model`, beside those of random weights.

    The folds are those of the study, the classes weigh alike.

    Returns:
        A row per weights and fold: `weights, fold, f1, sensitivity, auc`.

    Raises:
        MirstError: data or weights that cannot be read, or a model without a head to take off.
    """
    prepared = prepare(spec)
    spec = prepared.spec
    rows = []
    for weights in dict.fromkeys(("random", spec.model.weights)):
        own = spec.model_copy(update={"model": spec.model.model_copy(update={"weights": weights})})
        features = _features(own, prepared)
        rows += [{"weights": weights, "fold": n, **_score(features, prepared, n)} for n in range(len(prepared.folds))]
    return pd.DataFrame(rows)


def _features(spec: StudySpec, prepared: Prepared) -> NDArray[np.float32]:
    model, _ = initial_model(spec, len(prepared.classes), False, spec.seeds[0])
    replace_head(model, lambda _: nn.Identity())
    everything = data_loader(prepared.subset(np.arange(len(prepared.records))), EVALUATION_BATCH)
    device = default_device()
    model.to(device).eval()
    with torch.no_grad():
        return np.asarray(torch.cat([model(x[:, : channels_of(spec)].to(device)).cpu() for x, _ in everything]))


def _score(features: NDArray[np.float32], prepared: Prepared, number: int) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fold, names = prepared.folds[number], np.array(prepared.classes)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000))
    classifier.fit(features[fold.train], names[prepared.labels[fold.train]])
    test = features[fold.test]
    score = classifier.predict_proba(test)[:, list(classifier.classes_).index(prepared.scored)]
    metrics = classification_metrics(
        names[prepared.labels[fold.test]], classifier.predict(test), score, prepared.classes, prepared.positive
    )
    return {name: metrics[name] for name in ("f1", "sensitivity", "auc")}
