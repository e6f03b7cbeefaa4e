import shutil
from dataclasses import replace

import pytest
from PIL import Image, ImageEnhance

from mirst.data import Record, assign_groups, audit_records, make_folds, read_dataset, relabel, resolve_conflicts
from mirst.errors import MirstError
from mirst.study import SHIPPED


@pytest.fixture
def doubtful(phantoms, tmp_path):
    """Phantoms, one of them copied four times: resized, brighter, and twice under the other class."""
    root = tmp_path / "data"
    shutil.copytree(phantoms, root)
    original = Image.open(root / "benign" / "phantom-003.png")
    original.resize((200, 150)).save(root / "benign" / "resized.png")
    ImageEnhance.Brightness(original).enhance(1.2).save(root / "benign" / "bright.png")
    original.save(root / "malignant" / "copy.jpg", quality=60)
    original.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "malignant" / "mirrored.png")
    return root


COPIES = {
    "benign/phantom-003.png",
    "benign/resized.png",
    "benign/bright.png",
    "malignant/copy.jpg",
    "malignant/mirrored.png",
}


def test_look_alikes_share_a_group_and_lie_on_one_side(doubtful):
    records = assign_groups(read_dataset(doubtful))
    group = {record.name: record.group for record in records}
    assert {name for name, g in group.items() if g == group["benign/phantom-003.png"]} == COPIES
    assert len(set(group.values())) == 24
    for fold in make_folds(read_dataset(doubtful), 3):
        sides = [name in {records[i].name for i in fold.test} for name in COPIES]
        assert all(sides) or not any(sides)


def test_named_groups_are_kept_and_look_alikes_join_them(phantoms, doubtful):
    named = [replace(record, group=f"patient {i // 2}") for i, record in enumerate(read_dataset(phantoms))]
    assert assign_groups(named) == named
    named = [replace(record, group=f"patient {i}") for i, record in enumerate(read_dataset(doubtful))]
    assert len({record.group for record in assign_groups(named)}) == 24


def test_conflicting_images_are_kept_or_dropped(doubtful):
    audited = audit_records(read_dataset(doubtful))
    assert len(resolve_conflicts(audited)) == 28
    assert {record.name for record in audited.records} - {r.name for r in resolve_conflicts(audited, "drop")} == COPIES


def test_relabelled_images_conflict_no_more(doubtful):
    records = read_dataset(doubtful)
    anew = relabel(records, {"malignant/copy.jpg": "benign", "malignant/mirrored.png": None}, ["benign", "malignant"])
    assert len(anew) == len(records) - 1
    assert {record.name: record.label for record in anew}["malignant/copy.jpg"] == "benign"
    assert len(resolve_conflicts(audit_records(anew), "drop")) == 27


def test_relabelling_what_is_not_there_is_refused(doubtful):
    records = read_dataset(doubtful)
    with pytest.raises(MirstError, match=r"no image malignant/copy\.png.*did you mean malignant/copy\.jpg"):
        relabel(records, {"malignant/copy.png": "benign"}, ["benign", "malignant"])
    with pytest.raises(MirstError, match="cyst is not a class; the classes are benign, malignant"):
        relabel(records, {"malignant/copy.jpg": "cyst"}, ["benign", "malignant"])


def test_an_image_name_that_two_sources_share_needs_its_source(doubtful):
    records = [replace(r, source=source) for source in ("one", "two") for r in read_dataset(doubtful)]
    with pytest.raises(MirstError, match="in several sources; write one/malignant"):
        relabel(records, {"malignant/copy.jpg": "benign"}, ["benign", "malignant"])
    anew = relabel(records, {"two/malignant/copy.jpg": "benign"}, ["benign", "malignant"])
    changed = [new for old, new in zip(records, anew, strict=True) if old != new]
    assert [(record.source, record.label) for record in changed] == [("two", "benign")]


def test_an_unreadable_image_gets_a_sentence(doubtful):
    (doubtful / "benign" / "resized.png").write_bytes(b"broken")
    with pytest.raises(MirstError, match=r"resized\.png"):
        assign_groups(read_dataset(doubtful))
    record = Record(doubtful / "missing.png", "benign", None, "test")
    with pytest.raises(MirstError, match=r"missing\.png"):
        assign_groups([record])


def test_groups_of_real_images(real_data):
    """Seen by eye: copies of BUSI share a group, different lesions do not; two patients of BUS-BRA are filed twice."""
    busi = {r.name: r.group for r in assign_groups(read_dataset(real_data / "busi", ["benign", "malignant"]))}
    assert busi["benign/benign (136).png"] == busi["benign/benign (50).png"]
    assert busi["benign/benign (433).png"] == busi["malignant/malignant (145).png"]
    assert busi["benign/benign (62).png"] != busi["benign/benign (80).png"]
    assert len(set(busi.values())) == 498
    assert busi["malignant/malignant (98).png"] == busi["malignant/malignant (99).png"]
    named = read_dataset(real_data / "busbra")[:500]  # the two are among them
    cases, groups = ({r.group for r in records} for records in (named, assign_groups(named)))
    assert len(cases) - len(groups) == 2


def test_the_published_groups_of_busi(real_data, tmp_path):
    """The file names the images and masks as a folder with `benign` and `malignant` does."""
    published = SHIPPED / "busi-groups.csv"
    folder = real_data / "busi" / "Dataset_BUSI_with_GT"
    table = tmp_path / "busi-groups.csv"
    table.write_text(published.read_text())
    for name in ("benign", "malignant"):
        (tmp_path / name).symlink_to(folder / name)
    listed = read_dataset(table)
    found = {r.name: r for r in read_dataset(real_data / "busi") if r.label != "normal"}
    assert len({r.group for r in listed}) == 499
    assert [(r.name, r.label, r.source) for r in listed] == [(r.name, r.label, r.source) for r in found.values()]
    assert all([m.name for m in r.masks] == [m.name for m in found[r.name].masks] for r in listed)
