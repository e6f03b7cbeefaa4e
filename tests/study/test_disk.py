"""Results on a file system of its own, which has no room or cannot be written."""

import os
import subprocess
import sys

import pytest

from mirst.cli import main

pytestmark = pytest.mark.usefixtures("unpainted")


@pytest.fixture
def disk(tmp_path):
    """Mounts a small file system in memory, and can mount it anew with other options."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", folder, "-o"]
    if subprocess.run([*mount, "size=200k"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    subprocess.run(["umount", folder], check=True)


def test_a_full_or_read_only_disk_ends_with_a_sentence_and_the_same_command_goes_on(
    disk, small_yaml, phantoms, finished, tmp_path, monkeypatch, capfd
):
    out = tmp_path / "disk" / "out"
    arguments = ["mirst", "run", small_yaml, "--data", phantoms, "--out", out, "--quiet", "--track", "tensorboard"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])

    def run():
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code or 0, capfd.readouterr().err

    disk("ro")
    assert run() == (2, f"mirst: cannot write into {out} (Read-only file system)\n")
    disk("rw")
    code, err = run()
    assert code == 2
    assert err.startswith("mirst: trial ")
    assert err.endswith("(No space left on device)\n")
    assert err.count("\n") == 1
    disk("size=200m")
    assert run() == (0, "")
    for name in ("outcomes.csv", "summary.csv"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    assert not list(out.rglob("*.partial"))
