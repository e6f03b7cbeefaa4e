import pytest
from PIL import Image

from mirst.data import read_dataset


@pytest.fixture
def folder(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("L", (20, 20), len(label)).save(tmp_path / "set" / label / "1.png")
    return tmp_path / "set"


def told(path, **settings):
    sentences = []
    read_dataset(path, on_remark=sentences.append, **settings)
    return sentences


def test_nothing_is_said_of_a_clean_folder(folder):
    assert told(folder) == []
    assert told(folder, labels={"a": "x", "b": "y"}) == []


def test_classes_that_are_not_asked_for_are_not_ignored_files(folder):
    (folder / "c").mkdir()
    Image.new("L", (20, 20), 9).save(folder / "c" / "1.png")
    assert told(folder, classes=["a", "b"]) == []


def test_files_are_counted_and_the_first_are_named(folder):
    (folder / "notes.txt").write_text("x")
    assert told(folder) == ["1 file was ignored: notes.txt."]
    (folder / "a" / "scan.heic").write_text("x")
    (folder / "a" / "deep" / "er").mkdir(parents=True)
    Image.new("L", (20, 20), 9).save(folder / "a" / "deep" / "er" / "2.png")
    assert told(folder) == ["3 files were ignored: a/deep/er/2.png, a/scan.heic, notes.txt."]
    Image.new("L", (20, 20), 9).save(folder / "loose.png")
    assert told(folder) == ["4 files were ignored: a/deep/er/2.png, a/scan.heic, loose.png and 1 more."]


def test_hidden_and_system_files_are_counted_alone(folder):
    for name in (".DS_Store", "Thumbs.db", "a/desktop.ini", "a/._1.png", "b/.hidden.png"):
        (folder / name).write_bytes(b"x")
    for name in (".git", "__MACOSX"):
        (folder / name).mkdir()
        (folder / name / "1.png").write_bytes(b"x")
    assert told(folder) == ["5 hidden or system files were ignored."]


def test_links_are_named_and_linked_classes_are_read(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "b").rename(tmp_path / "elsewhere" / "b")
    (folder / "b").symlink_to(tmp_path / "elsewhere" / "b")
    assert told(folder) == []
    (folder / "b" / "notes.txt").write_text("x")
    (folder / "a" / "above").symlink_to(folder)
    (folder / "a" / "lost.png").symlink_to("lost.png")
    assert told(folder) == ["3 files were ignored: a/above, a/lost.png, b/notes.txt."]


def test_a_manifest_beside_the_classes_is_pointed_to(folder):
    (folder / "list.csv").write_text("path,label,group\na/1.png,a,p1\nb/1.png,b,p2\n")
    assert told(folder) == [
        "list.csv lists images with labels; pass it as the data set to read them and their groups.",
        "1 file was ignored: list.csv.",
    ]
    assert told(folder / "list.csv") == []


def test_names_cannot_steer_a_terminal(folder):
    (folder / "\x1b[2J.txt").write_text("x")
    assert told(folder) == [r"1 file was ignored: \x1b[2J.txt."]


def test_tables_that_are_read_are_not_ignored(tmp_path):
    (tmp_path / "Images").mkdir()
    (tmp_path / "Masks").mkdir()
    for name in ("Images/bus_1-l.jpg", "Images/bus_2-l.jpg", "Masks/mask_1-l.png"):
        Image.new("L", (20, 20), 9).save(tmp_path / name)
    (tmp_path / "bus_data.csv").write_text("ID,Case,Pathology\nbus_1-l,1.0,benign\nbus_2-l,,malignant\n")
    sentences = []
    records = read_dataset(tmp_path, on_remark=sentences.append)
    assert sentences == ["1 mask was not taken for images: Masks/mask_1-l.png."]
    assert [(record.name, record.group) for record in records] == [
        ("Images/bus_1-l.jpg", "busbra-case-1"),
        ("Images/bus_2-l.jpg", None),
    ]


def test_real_busbra(real_data):
    assert told(real_data / "busbra") == ["1 file was ignored: BUSBRA/LICENSE.txt."]
