import shutil
from dataclasses import replace

import numpy as np
import pytest

from mirst.data import ImageFile, audit_records, load_images, read_dataset, write_prepared
from mirst.errors import MirstError
from mirst.study import load_spec
from mirst.study.prepared import prepare


@pytest.fixture
def original(phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "data")
    shutil.copy(tmp_path / "data" / "benign" / "phantom-001.png", tmp_path / "data" / "benign" / "copy.png")
    return tmp_path / "data"


def test_a_study_elsewhere_finds_the_same_pixels_groups_and_folds(original, tmp_path, monkeypatch):
    spec = load_spec(None, ["data.size=48", "folds.count=3"])
    here = prepare(spec.with_data(original))
    folder = write_prepared(read_dataset(original), tmp_path / "away", 48)
    shutil.rmtree(original)
    monkeypatch.setenv("MIRST_CACHE", str(tmp_path / "another machine"))
    there = prepare(spec.with_data(folder))
    assert np.array_equal(here.images.pixels, there.images.pixels)
    assert len(there.audit.found.exact) == 1
    known = ("name", "label", "group", "source")
    assert [[getattr(r, k) for k in known] for r in here.records] == [
        [getattr(r, k) for k in known] for r in there.records
    ]
    assert all(np.array_equal(a.test, b.test) for a, b in zip(here.folds, there.folds, strict=True))


def test_attributes_come_along_unless_they_may_name_a_patient(original, tmp_path):
    records = [
        replace(record, attributes={"device": "=x" if i % 2 else "y", "+name": "z", "birthday": str(i)})
        for i, record in enumerate(read_dataset(original))
    ]
    there = read_dataset(write_prepared(records, tmp_path / "away", 32))
    wanted = {record.name: {"device": record.scanner, "+name": "z"} for record in records}
    assert len(wanted) == 25
    assert {record.name: record.attributes for record in there} == wanted


def test_what_it_refuses(original, tmp_path):
    records = read_dataset(original)
    with pytest.raises(MirstError, match="exists; give a new folder"):
        write_prepared(records, original, 32)
    (original / "benign" / "copy.png").write_bytes(b"broken")
    with pytest.raises(MirstError, match=r"copy\.png"):
        write_prepared(records, tmp_path / "away", 32)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_prepared_folder_is_not_merged_with_other_data(original, tmp_path):
    """Letterboxed images look more alike than they are, and the findings know their own folder only."""
    folder = write_prepared(read_dataset(original), tmp_path / "away", 32)
    with pytest.raises(MirstError, match="prepare the data sets together"):
        audit_records(read_dataset(folder) + read_dataset(original))


@pytest.mark.parametrize("without_box", ["drop", "whole"])
def test_a_lesion_study_needs_the_original_images(masked_phantoms, tmp_path, without_box):
    """The crops of a study would otherwise depend on whether its data were prepared."""
    folder = write_prepared(read_dataset(masked_phantoms), tmp_path / "away", 32)
    spec = load_spec(None, [f"data.path={folder}", "data.view=lesion", f"data.without_box={without_box}"])
    with pytest.raises(MirstError, match=r"away contains prepared whole images.* give the original data set"):
        prepare(spec)


def test_its_array_is_not_taken_for_its_first_image(original, tmp_path):
    folder = write_prepared(read_dataset(original), tmp_path / "away", 32)
    with pytest.raises(MirstError, match=r"pixels\.npy is an array and not an image"):
        load_images([ImageFile(folder / "pixels.npy")], 32)


def test_a_damaged_folder_gets_a_sentence(original, tmp_path):
    folder = write_prepared(read_dataset(original), tmp_path / "away", 32)
    files = [record.file for record in read_dataset(folder)]
    np.save(folder / "pixels.npy", np.zeros((3, 1, 32, 32), np.uint8))
    with pytest.raises(MirstError, match=r"cannot read image \d+ of .*prepare it again"):
        load_images(files, 32)
    np.save(folder / "pixels.npy", np.zeros((30, 32, 32), np.float32))
    with pytest.raises(MirstError, match="8-bit"):
        load_images(files, 32)
    sound = (folder / "pixels.npy").read_bytes()
    (folder / "pixels.npy").write_bytes(sound[:13] + sound[77:])  # numpy's header parser raises a TokenError
    with pytest.raises(MirstError, match="prepare it again"):
        load_images(files, 32)
    (folder / "pixels.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(MirstError, match="prepare it again"):
        load_images(files, 32)
    (folder / "inspection.json").write_text("{")
    with pytest.raises(MirstError, match=r"inspection\.json cannot be read"):
        audit_records(read_dataset(folder))
    (folder / "records.csv").write_text("name,label\n")
    with pytest.raises(MirstError, match="no rows"):
        read_dataset(folder)


def test_a_study_of_some_classes_finds_what_it_would_have_found(original, tmp_path):
    """A third class read and left out: positions shift, findings follow."""
    shutil.copytree(original / "benign", original / "a normal")
    folder = write_prepared(read_dataset(original), tmp_path / "away", 32)
    chosen = ["benign", "malignant"]
    there, here = (audit_records(read_dataset(path, chosen)) for path in (folder, original))
    assert (there.groups, there.copies) == (here.groups, here.copies)
    assert (there.found.exact, there.found.few_levels) == (here.found.exact, here.found.few_levels)
    assert len(audit_records(read_dataset(folder)).conflicts) == 12
