import pandas as pd
import pytest

from mirst.report import write_evaluation
from tests.helpers import CARD


def rows():
    """Four images, of which the attack flips the predictions of two."""
    table = pd.DataFrame({"image": [0, 1, 2, 3], "label": [0, 0, 1, 1], "prediction": [0, 1, 1, 1], "linf": 0.0})
    clean = table.assign(attack="none", eps=0.0, score=[-1.0, 1.0, 2.0, 3.0])
    attacked = table.assign(attack="pgd", eps=5 / 255, prediction=[1, 1, 1, 0], score=[1.0, 1.0, 2.0, -3.0])
    return pd.concat([clean, attacked], ignore_index=True)


def test_metrics_are_those_of_the_rows(tmp_path):
    table = write_evaluation(tmp_path / "out", rows(), CARD)
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert metrics[["attack", "images"]].to_numpy().tolist() == [["none", 4], ["pgd", 4]]
    assert metrics["accuracy"].tolist() == [0.75, 0.25]
    assert metrics["sensitivity"].tolist() == [1.0, 0.5]
    assert metrics["specificity"].tolist() == [0.5, 0.0]
    assert metrics["f1"].tolist() == pytest.approx([0.8, 0.4])
    outcomes = pd.read_csv(tmp_path / "out" / "outcomes.csv")
    assert outcomes["prediction"].tolist()[:2] == ["benign", "malignant"]
    text = table.read_text()
    assert "| pgd | 5/255 | 4 | 0.400 | 0.500 | 0.000 |" in text
    assert "do not show the spread over folds" in text
