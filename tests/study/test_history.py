from dataclasses import replace

import pytest

from mirst.study.history import epochs_so_far, history_table
from mirst.study.layout import StudyFolder
from mirst.training import Epoch

FIRST = Epoch(number=1, loss=0.7, terms={"clean": 0.7}, eps_share=0.0, clean=0.5, attacked=None, seconds=1.0)
SECOND = Epoch(
    number=2, loss=0.6, terms={"clean": 0.4, "adversarial": 0.8}, eps_share=1.0, clean=0.75, attacked=0.5, seconds=2.0
)


@pytest.mark.parametrize(
    ("history", "has_auc"),
    [([FIRST, SECOND], False), ([FIRST, replace(SECOND, attacked_auc=0.625)], True)],
    ids=["as in older versions", "with AUC"],
)
def test_a_history_is_read_back_and_has_a_column_of_auc_only_where_it_was_measured(tmp_path, history, has_auc):
    folder = StudyFolder(tmp_path).trial("ce-fold0-seed0")
    folder.history.parent.mkdir(parents=True)
    table = history_table(history, kept=2)
    table.to_csv(folder.history, index=False)
    assert ("attacked_auc" in table) == has_auc
    assert list(table["kept"]) == [False, True]
    assert epochs_so_far(folder) == history
