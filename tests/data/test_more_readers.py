"""Manifest, MedMNIST, BrEaST and DICOM, and several data sets as one."""

import io
import zipfile

import numpy as np
import openpyxl
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from mirst.data import ImageFile, decode, load_images, read_dataset, read_datasets
from mirst.data.readers.table import read_table
from mirst.errors import MirstError
from tests.data.helpers import RAMP, save, write_csv, write_dicom


@pytest.fixture
def manifest(tmp_path):
    for name in ("one.png", "deep/two.png", "three.png"):
        save(tmp_path / "listed" / name)
    rows = [
        ("path", "label", "group", "source"),
        ("one.png", "a", "p1", "x"),
        ("deep/two.png", "b", "p1", "x"),
        ("three.png", "b", "", ""),
    ]
    return write_csv(tmp_path / "listed" / "list.csv", rows)


def test_manifest(manifest):
    records = read_dataset(manifest)
    assert [(r.name, r.label, r.group, r.source) for r in records] == [
        ("three.png", "b", None, "listed"),
        ("one.png", "a", "p1", "x"),
        ("deep/two.png", "b", "p1", "x"),
    ]
    assert load_images([r.file for r in records], 16).shape == (3, 1, 16, 16)
    assert [r.attributes for r in records] == [{}] * 3


def test_every_other_column_of_a_manifest_is_an_attribute(manifest):
    rows = [
        ("", "path", "label", "Scanner", "age", "name", "image", "fold", "mask"),
        ("0", "one.png", "a", "=Aplio", "40.0", "x", "y", "1", ""),
        ("1", "three.png", "b", "", "nan", "x", "y", "2", ""),
    ]
    one, other = read_dataset(write_csv(manifest, rows))
    assert (one.attributes, one.scanner) == ({"Scanner": "=Aplio", "age": "40"}, "=Aplio")
    assert (other.attributes, other.scanner) == ({}, None)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("path", "class"), ("one.png", "a")], "lacks the column label"),
        ([("path;label",), ("one.png;a",)], "separate its columns with commas"),
        ([("path", "label"), ("missing.png", "a")], "line 2 of .*missing.png is not a file"),
        ([("path", "label"), ("one.png", "a"), ("one.png", "b")], "line 3 of .* a second time"),
        ([("path", "label"), ("one.png", "")], "line 2 of .* has no label"),
        ([("path", "label")], "has no rows"),
        ([("path", "label"), ("one.png", "a")], "one class only"),
    ],
)
def test_a_bad_manifest_gets_a_sentence(manifest, rows, words):
    write_csv(manifest, rows)
    with pytest.raises(MirstError, match=words):
        read_dataset(manifest)


@pytest.mark.parametrize("number", ["12", "12.0", "12.00", "12.", " 12.0 "])
def test_groups_and_labels_that_are_numbers_are_one_however_they_are_written(manifest, number):
    """A column of whole numbers with gaps is stored as floats by pandas and spreadsheets."""
    rows = [("path", "label", "group"), ("one.png", "0", "12"), ("deep/two.png", "1.0", number), ("three.png", "1", "")]
    records = {r.name: r for r in read_dataset(write_csv(manifest, rows))}
    assert records["one.png"].group == records["deep/two.png"].group == "12"
    assert records["deep/two.png"].label == records["three.png"].label == "1"


@pytest.mark.parametrize("missing", ["", "nan", "NaN", "None", "<NA>"])
def test_a_group_that_pandas_calls_missing_is_none(manifest, missing):
    rows = [("path", "label", "group"), ("one.png", "None", missing), ("three.png", "b", missing)]
    records = read_dataset(write_csv(manifest, rows))
    assert [(r.label, r.group) for r in records] == [("None", None), ("b", None)]


@pytest.mark.parametrize("cell", ["012", "P12.0", "12.5", "1e3", "v1.0", "12.0.0", "12,0"])
def test_other_groups_stay_as_they_are(manifest, cell):
    rows = [("path", "label", "group"), ("one.png", "a", cell), ("three.png", "b", "x")]
    assert read_dataset(write_csv(manifest, rows))[0].group == cell


def write_medmnist(path, side=28, channels=(), labels=(0, 1, 1)):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (len(labels), side, side, *channels), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array(labels, dtype=np.uint8)[:, None]
    np.savez(path, **arrays)
    return arrays


def test_breastmnist_calls_0_malignant(tmp_path):
    arrays = write_medmnist(tmp_path / "breastmnist_64.npz", 64)
    records = read_dataset(
        tmp_path / "breastmnist_64.npz", labels={"malignant": "malignant", "normal, benign": "benign"}
    )
    assert [r.label for r in records] == ["benign"] * 6 + ["malignant"] * 3
    malignant = next(r for r in records if r.name == "test/0")
    assert malignant.label == "malignant"
    assert np.array_equal(np.asarray(decode(malignant.file)), arrays["test_images"][0])


def test_another_medmnist_set_keeps_its_numbers_and_colours(tmp_path):
    arrays = write_medmnist(tmp_path / "pathmnist.npz", channels=(3,), labels=(0, 1, 2))
    records = read_dataset(tmp_path / "pathmnist.npz")
    assert {r.label for r in records} == {"0", "1", "2"}
    colour = load_images([records[0].file], 28, channels=3)
    assert np.array_equal(colour[0].transpose(1, 2, 0), arrays["test_images"][0])


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, np.float64, bool])
def test_the_kind_of_number_of_the_labels_changes_no_class(tmp_path, kind):
    arrays = write_medmnist(tmp_path / "breastmnist.npz")
    labels = {name: array.astype(kind) for name, array in arrays.items() if name.endswith("labels")}
    np.savez(tmp_path / "breastmnist.npz", **arrays | labels)
    assert {r.label for r in read_dataset(tmp_path / "breastmnist.npz")} == {"malignant", "normal, benign"}
    np.savez(tmp_path / "other.npz", **arrays | labels)
    assert {r.label for r in read_dataset(tmp_path / "other.npz")} == {"0", "1"}


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf])
def test_labels_that_are_no_class_numbers_are_refused(tmp_path, wrong):
    arrays = write_medmnist(tmp_path / "set.npz")
    arrays["val_labels"] = np.array([0, wrong, 1])[:, None]
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(MirstError, match="val_labels contains numbers that are not whole"):
        read_dataset(tmp_path / "set.npz")


def test_a_bad_npz_gets_a_sentence(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "b.npz", images=np.zeros(3))
    np.savez(tmp_path / "c.npz", train_images=np.array([object()], dtype=object), train_labels=np.zeros(1))
    for name, words in (("a.npz", "cannot read"), ("b.npz", "no array train_images"), ("c.npz", "cannot read")):
        with pytest.raises(MirstError, match=words):
            read_dataset(tmp_path / name)


@pytest.fixture(params=["csv", "xlsx"])
def breast(request, tmp_path):
    rows = [
        ("CaseID", "Image_filename", "Mask_tumor_filename", "Classification"),
        (1, "case001.png", "case001_tumor.png", "benign"),
        (2, "case002.png", "case002_tumor.png", "malignant"),
        (7, "case007.png", "", "normal"),
    ]
    folder = tmp_path / "breast" / "BrEaST-Lesions_USG-images_and_masks"
    for _, name, mask, _ in rows[1:]:
        save(folder / name, (255, 255, 255, 255), mode="RGBA")
        if mask:
            save(folder / mask)
    if request.param == "csv":
        write_csv(tmp_path / "breast" / "clinical.csv", rows)
    else:
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(tmp_path / "breast" / "clinical.xlsx")
    return tmp_path / "breast"


def test_breast_takes_labels_and_cases_from_its_table(breast):
    records = read_dataset(breast)
    assert [(r.path.name, r.label, r.group, r.source) for r in records] == [
        ("case001.png", "benign", "breast-case-1", "breast"),
        ("case002.png", "malignant", "breast-case-2", "breast"),
        ("case007.png", "normal", "breast-case-7", "breast"),
    ]


def test_breasts_hidden_pixels_are_black(breast):
    records = read_dataset(breast)
    image = Image.open(records[0].path)
    image.putpixel((3, 4), (255, 255, 255, 0))
    image.save(records[0].path)
    gray = np.asarray(decode(records[0].file))
    assert gray[4, 3] == 0
    assert gray[0, 0] == 255


def test_a_listed_image_that_is_missing_is_named(breast):
    next(breast.rglob("case002.png")).unlink()
    with pytest.raises(MirstError, match=r"lists case002\.png"):
        read_dataset(breast)


def gray_of(path, frame=None):
    return np.asarray(decode(ImageFile(path, frame)))


def test_dicom_gray_values(tmp_path):
    write_dicom(tmp_path / "a.dcm", RAMP)
    assert np.array_equal(gray_of(tmp_path / "a.dcm"), RAMP)
    write_dicom(tmp_path / "inverted.dcm", RAMP, photometric="MONOCHROME1")
    assert np.array_equal(gray_of(tmp_path / "inverted.dcm"), 255 - RAMP)
    write_dicom(tmp_path / "deep.dcm", RAMP.astype(np.uint16) * 16, bits=12)
    assert np.abs(gray_of(tmp_path / "deep.dcm").astype(int) - RAMP * 16.0 / 4095 * 255).max() <= 0.5


def test_dicom_rescale_and_window(tmp_path):
    """Stored v means 2v - 100; the window 0 to 200 shows it, clipped (PS3.3, C.11.2.1.2.1)."""
    write_dicom(tmp_path / "w.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=100.5, WindowWidth=201)
    expected = ((2.0 * RAMP - 100) / 200).clip(0, 1) * 255
    assert np.abs(gray_of(tmp_path / "w.dcm") - expected).max() <= 0.51


def test_dicom_colour_and_region(tmp_path):
    region = Dataset()
    region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 9, 6
    write_dicom(tmp_path / "r.dcm", RAMP, SequenceOfUltrasoundRegions=[region])
    assert np.array_equal(gray_of(tmp_path / "r.dcm"), RAMP[1:7, 2:10])
    write_dicom(tmp_path / "rgb.dcm", np.stack([RAMP, RAMP // 2, RAMP // 4], -1), photometric="RGB")
    assert np.array_equal(np.asarray(decode(ImageFile(tmp_path / "rgb.dcm"), 3))[..., 1], RAMP // 2)


def test_dicom_frames_are_images_and_patients_are_pseudonyms(tmp_path):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (3, 8, 12), dtype=np.uint8)
    write_dicom(tmp_path / "benign" / "clip.dcm", clip)
    write_dicom(tmp_path / "malignant" / "still", RAMP)
    write_dicom(tmp_path / "malignant" / "other.dcm", RAMP, patient="Roe^4712")
    write_dicom(tmp_path / "malignant" / "unnamed.dcm", RAMP, patient=None)
    records = read_dataset(tmp_path)
    assert [(r.name, r.group.removeprefix(f"{tmp_path.name}-")) for r in records] == [
        ("benign/clip.dcm#0", "patient-1"),
        ("benign/clip.dcm#1", "patient-1"),
        ("benign/clip.dcm#2", "patient-1"),
        ("malignant/other.dcm", "patient-2"),
        ("malignant/still", "patient-1"),
        ("malignant/unnamed.dcm", "malignant/unnamed.dcm"),
    ]
    assert "4711" not in repr(records)
    assert np.array_equal(np.asarray(decode(records[1].file)), clip[1])
    with pytest.raises(MirstError, match="3 frames"):
        decode(ImageFile(tmp_path / "benign" / "clip.dcm"))


@pytest.fixture
def clinic(tmp_path):
    """Class folders of DICOM files under names of every kind, and a picture among them."""
    clip = np.random.default_rng(0).integers(0, 256, (3, 8, 12), dtype=np.uint8)
    write_dicom(tmp_path / "set" / "benign" / "1.2.840.113619.2.55", clip)
    write_dicom(tmp_path / "set" / "malignant" / "IM0001.IMA", RAMP)
    write_dicom(tmp_path / "set" / "malignant" / "other", RAMP, patient="Roe^4712")
    write_dicom(tmp_path / "set" / "malignant" / "unnamed.scan", RAMP, patient=None)
    save(tmp_path / "set" / "benign" / "picture.png")
    return tmp_path / "set"


def test_a_csv_reads_dicom_files_as_a_folder_does(clinic):
    files = sorted(path for path in clinic.rglob("*") if path.is_file())
    folder = read_dataset(clinic)
    rows = [("path", "label"), *((path.relative_to(clinic).as_posix(), path.parent.name) for path in files)]
    listed = read_dataset(write_csv(clinic / "list.csv", rows))
    assert len(listed) == 7
    assert listed == folder
    assert "4711" not in repr(listed)
    assert load_images([record.file for record in listed], 16).shape == (7, 1, 16, 16)


def test_a_group_in_a_csv_counts_for_all_files_of_the_patient(clinic):
    rows = [
        ("path", "label", "group", "source"),
        ("benign/1.2.840.113619.2.55", "benign", "", "one"),
        ("malignant/IM0001.IMA", "malignant", "case 7", "two"),
        ("malignant/other", "malignant", "", "two"),
    ]
    records = read_dataset(write_csv(clinic / "list.csv", rows))
    assert [(r.name, r.group, r.source) for r in records] == [
        *((f"benign/1.2.840.113619.2.55#{frame}", "case 7", "one") for frame in range(3)),
        ("malignant/IM0001.IMA", "case 7", "two"),
        ("malignant/other", "set-patient-2", "two"),
    ]


def test_a_patient_is_one_across_the_sources_of_a_csv(clinic):
    rows = [
        ("path", "label", "source"),
        ("benign/1.2.840.113619.2.55", "a", "one"),
        ("malignant/IM0001.IMA", "b", "two"),
    ]
    assert {r.group for r in read_dataset(write_csv(clinic / "list.csv", rows))} == {"set-patient-1"}


def test_a_bad_dicom_gets_a_sentence(tmp_path):
    write_dicom(tmp_path / "whole.dcm", RAMP)
    whole = (tmp_path / "whole.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) - 60])
    (tmp_path / "not.dcm").write_bytes(b"no DICOM")
    for name in ("cut.dcm", "not.dcm", "missing.dcm"):
        with pytest.raises(MirstError, match=name.replace(".", r"\.")):
            decode(ImageFile(tmp_path / name))


def test_labels_are_mapped_and_classes_left_out(breast):
    records = read_dataset(breast, labels={"benign": "harmless", "malignant": "malignant", "normal": None})
    assert [r.label for r in records] == ["harmless", "malignant"]
    with pytest.raises(MirstError, match="labels does not contain normal"):
        read_dataset(breast, labels={"benign": "benign", "malignant": "malignant"})
    with pytest.raises(MirstError, match="no class cyst"):
        read_dataset(breast, labels={"benign": "a", "malignant": "b", "normal": "c", "cyst": "d"})


def test_several_data_sets_become_one(breast, tmp_path):
    write_medmnist(tmp_path / "breastmnist.npz")
    first = read_dataset(breast, labels={"benign": "benign", "malignant": "malignant", "normal": None})
    second = read_dataset(tmp_path / "breastmnist.npz", labels={"malignant": "malignant", "normal, benign": "benign"})
    merged = read_datasets([first, second])
    assert len(merged) == 2 + 9
    assert {r.source for r in merged} == {"breast", "breastmnist"}
    with pytest.raises(MirstError, match="two data sets have the name breast"):
        read_datasets([first, first])
    renamed = read_dataset(
        breast, source="again", labels={"benign": "benign", "malignant": "malignant", "normal": None}
    )
    assert len(read_datasets([first, renamed])) == 4


def test_headers_that_promise_the_moon_are_refused_before_anything_is_allocated(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40,)})
        for split in ("train", "val", "test"):
            archive.writestr(f"{split}_images.npy", header.getvalue())
            archive.writestr(f"{split}_labels.npy", header.getvalue())
    with pytest.raises(MirstError, match="declares 1099511627776 bytes"):
        read_dataset(tmp_path / "set.npz")
    write_dicom(tmp_path / "huge.dcm", RAMP, NumberOfFrames=2**30)
    with pytest.raises(MirstError, match="declares"):
        decode(ImageFile(tmp_path / "huge.dcm"))


def test_a_file_that_changes_is_read_anew(tmp_path):
    write_dicom(tmp_path / "a.dcm", RAMP)
    assert gray_of(tmp_path / "a.dcm").max() == RAMP.max()
    write_dicom(tmp_path / "a.dcm", RAMP // 2)
    assert gray_of(tmp_path / "a.dcm").max() == RAMP.max() // 2


def write_xlsx(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("write", [write_csv, write_xlsx])
@pytest.mark.parametrize("column", ["label", "path", "group"])
def test_two_columns_of_one_name_get_a_sentence(tmp_path, write, column):
    path = tmp_path / f"list.{write.__name__.removeprefix('write_')}"
    write(path, [("path", "label", "group", f" {column} "), ("one.png", "a", "p", "b")])
    with pytest.raises(MirstError, match=f"two columns named {column}; rename or remove one"):
        read_table(path, ("path", "label"))


@pytest.mark.parametrize("cells", [("one.png", "a", "b"), ("one.png", "a", "", "b"), ("one", "1.png", "a", "")])
def test_a_row_of_more_cells_than_the_header_gets_a_sentence(tmp_path, cells):
    path = write_csv(tmp_path / "list.csv", [("path", "label"), ("zero.png", "a"), cells])
    with pytest.raises(MirstError, match=r"line 3 has more cells than the header; quote a cell that contains a comma"):
        read_table(path, ("path", "label"))


def test_empty_cells_beyond_the_header_and_short_rows_are_fine(tmp_path):
    rows = [("path", "label", "group", "", ""), ("one.png", "a", "", "", "", ""), (), ("two.png", "b")]
    path = write_csv(tmp_path / "list.csv", rows)
    found = [(row["path"], row["label"], row["group"]) for row in read_table(path, ("path", "label"))]
    assert found == [("one.png", "a", ""), ("two.png", "b", "")]


@pytest.mark.parametrize(
    "places", [("train/Benign", "test/benign", "train/malignant"), ("BENIGN", "benign", "malignant")]
)
def test_class_folders_that_differ_in_letter_case_only_get_a_sentence(tmp_path, places):
    for number, place in enumerate(places):
        save(tmp_path / "set" / place / f"{number}.png")
    if "train/malignant" in places:
        save(tmp_path / "set" / "test" / "malignant" / "x.png")
    with pytest.raises(MirstError, match=r"(Benign|BENIGN) and benign, which differ in letter case only; rename one"):
        read_dataset(tmp_path / "set")


@pytest.mark.parametrize("classes", [None, ["benign", "malignant"]])
def test_listed_classes_that_differ_in_letter_case_only_get_a_sentence(tmp_path, classes):
    rows = [("path", "label")]
    for number, label in enumerate(["benign", "malignant", "Malignant"]):
        save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", label))
    with pytest.raises(MirstError, match="Malignant and malignant, which differ in letter case only"):
        read_dataset(write_csv(tmp_path / "list.csv", rows), classes)
