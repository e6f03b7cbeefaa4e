from pathlib import Path

import pandas as pd
import pytest

from mirst.data import Record
from mirst.errors import MirstError
from mirst.study.attributes import read_attributes, write_attributes
from mirst.study.layout import StudyFolder


def records(count, **attributes):
    return [
        Record(Path(f"{i}.png"), "a", None, "clinic", f"{i}.png", attributes={k: v[i] for k, v in attributes.items()})
        for i in range(count)
    ]


def test_attributes_are_read_as_they_were_written(tmp_path):
    study = StudyFolder(tmp_path)
    site = ["NA", "=1+1", "007", "two, words"]
    write_attributes(study, [*records(4, site=site), Record(Path("5.png"), "a", None, "other", "0.png")])
    found = read_attributes(study)
    assert list(found) == ["site"]
    assert [found.loc[("clinic", f"{i}.png"), "site"] for i in range(4)] == site
    assert pd.isna(found.loc[("other", "0.png"), "site"])


def test_an_attribute_of_many_values_is_not_written(tmp_path):
    study, birthday = StudyFolder(tmp_path), [f"1.{i}.1960" for i in range(13)]
    write_attributes(study, records(13, birthday=birthday, site=["x"] * 13))
    assert "1960" not in study.records.read_text()
    write_attributes(study, records(13, birthday=birthday))
    assert not study.records.exists()
    assert read_attributes(study) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "is damaged"),
        (b"", "is damaged"),
        (b"image,site\n1.png,x\n", "lacks the column source"),
        (b"source,site\nclinic,x\n", "lacks the column image"),
        (b"source,image,site\nclinic,1.png,x\nclinic,1.png,y\n", r"has the image 1\.png twice"),
    ],
)
def test_a_damaged_table_gets_a_sentence(tmp_path, content, words):
    study = StudyFolder(tmp_path)
    study.records.write_bytes(content)
    with pytest.raises(MirstError, match=rf"records\.csv {words}.*repeat the command that wrote the file"):
        read_attributes(study)
