import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from sklearn.metrics import roc_auc_score

from mirst.data import ImageFile, assign_groups, decode, make_phantom, read_dataset, with_boxes, write_phantoms
from mirst.data.phantom import HEIGHT, WIDTH


def test_phantoms_repeat_and_differ():
    a, b, c = (make_phantom(True, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == (HEIGHT, WIDTH)
    assert a.dtype == np.uint8
    assert 40 < a.mean() < 180


def test_malignant_lesions_throw_a_shadow_on_average():
    rng = np.random.default_rng(0)
    below = {
        malignant: np.mean([make_phantom(malignant, rng)[60:72, 40:88].mean() for _ in range(150)])
        for malignant in (False, True)
    }
    assert below[True] < below[False] - 5


def test_written_phantoms_are_a_data_set_with_hardly_any_look_alikes(tmp_path):
    write_phantoms(tmp_path, 40)
    records = assign_groups(read_dataset(tmp_path))
    assert len(records) == 80
    assert len({r.group for r in records}) >= 76


@pytest.fixture(scope="module")
def lesions(tmp_path_factory):
    """The records of 200 phantoms with their boxes."""
    folder = tmp_path_factory.mktemp("lesions")
    write_phantoms(folder, 100)
    return with_boxes(read_dataset(folder))


def test_every_phantom_has_a_box_inside_of_it_around_its_dark_lesion(lesions):
    assert len(lesions) == 200
    darker = 0
    for record in lesions:
        box = record.box
        assert 0 < box.x0 < box.x1 < WIDTH
        assert 0 < box.y0 < box.y1 < HEIGHT
        pixels = np.asarray(decode(record.file), float)
        third_x, third_y = round(box.width / 3), round(box.height / 3)
        middle = pixels[box.y0 + third_y : box.y1 - third_y, box.x0 + third_x : box.x1 - third_x]
        beside = np.hstack([pixels[box.y0 : box.y1, : box.x0], pixels[box.y0 : box.y1, box.x1 :]])
        darker += middle.mean() < beside.mean()
    assert darker > 190


def test_the_aspect_of_the_box_tells_the_classes_apart_but_weakly(lesions):
    malignant = [record.label == "malignant" for record in lesions]
    aspect = [record.box.features(WIDTH, HEIGHT)[0] for record in lesions]
    assert 0.55 < roc_auc_score(malignant, aspect) < 0.9
    assert sum(malignant) == 100


def test_a_mask_has_the_outline_of_the_lesion_alone(tmp_path):
    """Its pixels are darker than those just outside of its outline."""
    write_phantoms(tmp_path, 6)
    contrast = []
    for record in read_dataset(tmp_path):
        (path,) = record.masks
        assert path == record.path.parent / "masks" / record.path.name
        mask = np.asarray(decode(ImageFile(path))) > 127
        ring = binary_dilation(mask, iterations=8) & ~binary_dilation(mask, iterations=4)
        pixels = np.asarray(decode(record.file), float)
        contrast.append(pixels[ring].mean() - pixels[mask].mean())
    assert len(contrast) == 12
    assert np.mean(contrast) > 20
