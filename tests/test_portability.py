"""mirst where Linux's own functions, and packages that only speed up or widen it, are missing."""

import os
import subprocess
import sys

import pandas as pd

from mirst.study import Local, load_spec, run_study

ELSEWHERE = """
import multiprocessing, os, pathlib, signal, sys

for name in ("fcntl", "resource", "numba", "openpyxl"):
    sys.modules[name] = None
for module, names in (
    (os, ("sched_getaffinity",)),
    (signal, ("pthread_sigmask", "SIGKILL", "SIGALRM", "setitimer", "ITIMER_REAL")),
):
    for name in names:
        delattr(module, name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
opened = pathlib.Path.open

def no_proc(path, *arguments, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return opened(path, *arguments, **options)

pathlib.Path.open = no_proc
"""
"""A `sitecustomize`, which the processes of workers import too: neither macOS nor Windows has all that it removes."""
TINY = """
data: {size: 16}
training: {epochs: 1}
defenses: [{name: ce, drop_max: true}]
attacks: [fgsm]
folds: {count: 2}
"""


def test_a_study_ends_with_the_same_numbers_on_other_systems(phantoms, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    (tmp_path / "tiny.yaml").write_text(TINY)
    call = "import sys; assert sys.modules['fcntl'] is None; import mirst.cli; mirst.cli.main()"
    run = ("run", tmp_path / "tiny.yaml", "--data", phantoms, "--out", tmp_path / "elsewhere", "--jobs", "1")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", call, *map(str, run)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_study(load_spec(tmp_path / "tiny.yaml").with_data(phantoms), tmp_path / "here", engine=Local(1))
    elsewhere, here = (pd.read_csv(tmp_path / name / "outcomes.csv") for name in ("elsewhere", "here"))
    assert len(here) == 2 * 24  # clean and attacked
    pd.testing.assert_frame_equal(elsewhere, here, rtol=1e-3)  # without numba, drop-max rounds otherwise
