import numpy as np

from mirst.data import assign_groups, make_phantom, read_dataset, write_phantoms
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
