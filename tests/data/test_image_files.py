import pytest
from PIL import Image

from mirst.data import ImageFile, find_images
from mirst.errors import MirstError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "a_mask.png", "sub/deep/c.tif", "b_mask_1.png", ".hidden.png", ".git/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "sub" / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_folders_are_searched_to_any_depth(folder):
    images, left_out = find_images([folder])
    names = ["a.JPG", "b.png", "sub/deep/c.tif"]
    assert images == [ImageFile(folder / name) for name in names]
    assert left_out == [folder / "a_mask.png", folder / "b_mask_1.png", folder / "sub" / "notes.txt"]


def test_files_are_taken_as_named_each_once(folder):
    mask = folder / "b_mask_1.png"
    images, left_out = find_images([mask, folder / "sub", folder, folder / "b.png"])
    assert [image.path.name for image in images] == ["b_mask_1.png", "c.tif", "a.JPG", "b.png"]
    assert left_out == [folder / "sub" / "notes.txt", folder / "a_mask.png"]


def test_what_is_not_there_is_named(folder):
    with pytest.raises(MirstError, match=r"empty contains no images \(PNG"):
        find_images([folder, folder / "empty"])
    with pytest.raises(MirstError, match=r"gone does not exist"):
        find_images([folder / "gone"])
