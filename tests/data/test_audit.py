import shutil
from dataclasses import replace

import pytest
from PIL import Image

from mirst.data import AuditRule, read_dataset, write_prepared
from mirst.data.audit import audit_records, read_for_audit
from mirst.errors import MirstError


@pytest.mark.parametrize("path", ["xray/kermany/manifest.csv", "blood/bccd/manifest.csv"])
def test_patients_and_slides_of_other_modalities_are_not_joined(path, real_data):
    """But for one cell that was photographed on two slides."""
    found = audit_records(read_dataset(real_data / path))
    assert found.conflicts == []
    assert len(found.across_groups) == ("blood" in path)


@pytest.fixture
def folder(phantoms, tmp_path):
    """Phantoms with one copy of everything that an audit must find."""
    root = tmp_path / "data"
    shutil.copytree(phantoms, root)
    original = root / "benign" / "phantom-001.png"
    shutil.copy(original, root / "benign" / "copy.png")
    Image.open(original).resize((100, 75)).save(root / "malignant" / "conflict.png")
    (root / "benign" / "broken.png").write_bytes(b"broken")
    Image.new("L", (100, 80), 7).save(root / "benign" / "blank.png")
    Image.open(root / "malignant" / "phantom-002.png").resize((24, 18)).save(root / "malignant" / "tiny.png")
    return root


def test_everything_planted_is_found(folder):
    records = read_dataset(folder)
    found = audit_records(records)
    name = [record.name for record in records]
    assert [name[i] for i in found.found.unreadable] == ["benign/broken.png"]
    assert [name[i] for i in found.found.blank] == ["benign/blank.png"]
    assert [name[i] for i in found.found.tiny] == ["malignant/tiny.png"]
    assert [{name[i] for i in same} for same in found.found.exact] == [{"benign/copy.png", "benign/phantom-001.png"}]
    copies = {"benign/copy.png", "benign/phantom-001.png", "malignant/conflict.png"}
    assert [{name[i] for i in group} for group in found.conflicts] == [copies]
    group = dict(zip(name, found.groups, strict=True))
    assert len({group[n] for n in copies}) == 1
    assert group["benign/phantom-002.png"] != group["benign/phantom-003.png"]
    (counts,) = found.balance().values()
    assert counts == {"benign": 15, "malignant": 14}


def test_overlap_between_data_sets_and_named_groups(phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "again")
    records = read_for_audit([phantoms, tmp_path / "again", phantoms])
    assert len({record.source for record in records}) == 3
    found = audit_records(records)
    assert len(found.overlaps) == 3 * 24
    assert len(set(found.groups)) == 24
    assert found.conflicts == []


def test_the_rule_says_what_is_joined(folder):
    records = [replace(r, group="patient" if "phantom-00" in r.name else None) for r in read_dataset(folder)]
    groups = {join: audit_records(records, rule=AuditRule(join=join)).groups for join in ("copies", "named", "none")}
    names = [record.name for record in records]
    patient = {name for name in names if "phantom-00" in name}

    def beside(join):
        group = dict(zip(names, groups[join], strict=True))
        return {name for name in names if group[name] == group["benign/phantom-001.png"]}

    assert beside("named") == patient
    assert beside("copies") - patient == {"benign/copy.png", "malignant/conflict.png"}
    assert len(set(groups["none"])) == len(records)


def test_thresholds_of_the_rule_move_pairs_between_the_levels(folder):
    records = read_dataset(folder)
    default, strict = (audit_records(records, rule=rule) for rule in (None, AuditRule(fine=1.0, coarse=0.5)))
    assert len(default.copies) > len(strict.copies) == 1
    assert set(default.copies) - set(strict.copies) <= set(strict.look_alikes)
    joined = audit_records(records, rule=AuditRule(join="look_alikes", fine=1.0, coarse=0.5))
    assert len(joined.conflicts) == 1
    assert strict.conflicts == []
    with pytest.raises(MirstError, match=r"fine is 1\.5; it must lie above 0"):
        AuditRule(fine=1.5)


def test_a_group_that_swallows_the_set_is_warned_of(phantoms, tmp_path):
    shutil.copytree(phantoms, tmp_path / "data")
    for number in range(12):
        shutil.copy(tmp_path / "data/benign/phantom-001.png", tmp_path / f"data/benign/again-{number}.png")
    records = read_dataset(tmp_path / "data")
    (warning,) = audit_records(records).remarks()
    assert "13 of 36 images form one group" in warning
    assert "data.audit.join=named" in warning
    assert audit_records(records, rule=AuditRule(join="named")).remarks() == []


def test_real_busi_files_lesions_under_two_classes(real_data):
    """Seen by eye; docs/results/audit.md shows them."""
    records = read_dataset(real_data / "busi")
    found = audit_records(records)
    conflicts = [{records[i].path.stem for i in group} for group in found.conflicts]
    assert {"benign (433)", "malignant (145)"} in conflicts
    assert {"benign (42)", "benign (131)", "malignant (51)"} in conflicts
    assert len(conflicts) == 8


def paged_set(phantoms, folder, forms):
    """A set in which the first benign images are files of several pages."""
    shutil.copytree(phantoms, folder)
    images = sorted((folder / "benign").iterdir())
    for path, form in zip(images, forms, strict=False):
        with Image.open(path) as opened:
            page = opened.convert("RGB")
        path.unlink()
        page.save(path.with_suffix(f".{form}"), save_all=True, append_images=[page.rotate(90), page.rotate(180)])
    return folder


def test_pages_that_are_not_read_are_warned_of(phantoms, tmp_path):
    several = audit_records(read_dataset(paged_set(phantoms, tmp_path / "a", ["tif", "gif", "png", "webp"])))
    (warning,) = several.remarks()
    assert warning.startswith(
        "WARNING: 4 files contain several pages or frames, of which only the first is read: "
        "benign/phantom-001.tif (3), "
    )
    assert "and 1 more. Save every page" in warning
    assert warning in several.summary()
    (warning,) = audit_records(read_dataset(paged_set(phantoms, tmp_path / "b", ["tif"]))).remarks()
    assert "1 file contains several pages or frames" in warning
    assert audit_records(read_dataset(phantoms)).remarks() == []


def test_a_prepared_folder_remembers_the_pages(phantoms, tmp_path):
    records = read_dataset(paged_set(phantoms, tmp_path / "a", ["tif"]))
    folder = write_prepared(records, tmp_path / "prepared", 32)
    assert audit_records(read_dataset(folder)).found.pictures == audit_records(records).found.pictures
    assert len(audit_records(records).found.pictures) == 1
