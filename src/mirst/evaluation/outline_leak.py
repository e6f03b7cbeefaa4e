"""Whether the outlines of the masks of a data set give away the classes."""

from collections.abc import Sequence

from mirst.data import Record
from mirst.data.outlines import outline_predictions
from mirst.evaluation.intervals import interval


def outline_finding(records: Sequence[Record]) -> str | None:
    """A sentence with the cross-validated AUC of the outlines' shape alone; `None` without masks for both classes.

    Args:
        records: each in its group.

    >>> outline_finding([]) is None
    True
    """
    rows = outline_predictions(records)
    if rows is None:
        return None
    classes = sorted(rows["label"].unique())
    auc = interval(rows, classes, classes[1], "auc", of_model=["fold"])
    measured = f"AUC {auc} ({len(rows)} outlines, their size, place and aspect left out)"
    if auc.low > 0.5:
        return (
            f"WARNING: outlines of the masks alone tell {classes[0]} from {classes[1]} with {measured}; never give "
            "masks or their shape to a model, only their box."
        )
    return f"Outlines of the masks alone cannot tell {classes[0]} from {classes[1]}: {measured}."
