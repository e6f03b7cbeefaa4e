"""The attributes of images that divide a data set into subgroups."""

from collections import defaultdict
from collections.abc import Sequence

from mirst.data.record import Record

MOST_VALUES = 12
"""Of an attribute that divides a data set. One of more values, such as a name or a date, is written nowhere."""


def dividing_attributes(records: Sequence[Record]) -> list[str]:
    """The attributes with at most `MOST_VALUES` values, in the order in which the records have them.

    >>> from pathlib import Path
    >>> records = [Record(Path(f"{i}.png"), "a", None, "", attributes={"age": str(i), "site": "x"}) for i in range(20)]
    >>> dividing_attributes(records)
    ['site']
    """
    values: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, value in record.attributes.items():
            values[name].add(value)
    return [name for name, own in values.items() if len(own) <= MOST_VALUES]
