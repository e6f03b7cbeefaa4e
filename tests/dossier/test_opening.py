import json
import stat
import sys
import zipfile

import pytest

from mirst.dossier import is_contradicted, verify_dossier
from mirst.errors import MirstError
from tests.dossier.conftest import Contents
from tests.helpers import refused


def altered(written, path, name, content):
    contents = Contents.of(written.path)
    contents.files[name] = content
    return contents.write(path, hashes_too=name != "manifest.json")


@pytest.mark.parametrize(
    "name",
    ["../outside.csv", "/outside.csv", "trials/../../outside/model.safetensors", "C:\\a.csv", "setup.py", "a/b.npz"],
)
def test_a_file_that_no_dossier_has_is_refused(name, written, tmp_path):
    contents = Contents.of(written.path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member, content in (contents.files | {name: b"x"}).items():
            archive.writestr(member, content)
    with pytest.raises(MirstError, match="no dossier does"):
        verify_dossier(tmp_path / "a.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_link_is_refused(written, tmp_path):
    contents = Contents.of(written.path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member, content in contents.files.items():
            info = zipfile.ZipInfo(member)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16 if member == "records.csv" or member == "table.md" else 0
            archive.writestr(info, content)
    with pytest.raises(MirstError, match="not unpacked"):
        verify_dossier(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(written, tmp_path):
    contents = Contents.of(written.path)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member, content in [*contents.files.items(), ("outcomes.csv", b"x")]:
            archive.writestr(member, content)
    with pytest.raises(MirstError, match=r"outcomes.csv twice"):
        verify_dossier(tmp_path / "a.zip")


def test_a_bomb_is_refused(written, tmp_path, monkeypatch):
    monkeypatch.setattr("mirst.dossier.opening.ENDLESS", 2**10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 2**20)
    with pytest.raises(MirstError, match="bytes unpacked"):
        verify_dossier(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", b"[" * 100_000),
        ("manifest.json", b"{}"),
        ("manifest.json", b"\xff\xfe"),
        ("run.json", b'{"data": {"classes": 7}}'),
        ("run.json", b"not json"),
        ("outcomes.csv", b'"'),
        ("outcomes.csv", b"a,a\n1,2\n"),
        ("images.csv", b"\x00\xff"),
    ],
)
def test_damaged_contents_get_one_sentence(name, content, written, tmp_path, mirst):
    refused(mirst("verify", altered(written, tmp_path / "a.zip", name, content)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("outcomes.csv", b"defense\nce\n"),
        ("images.csv", b"source,image\na,b\n"),
        ("witnesses.csv", b"defense\nce\n"),
        ("certificates.csv", b"defense\nce\n"),
        ("study.yaml", b"model: {name: no-such-model}\n"),
        ("study.yaml", b"- 1\n"),
        ("trials/ce-fold0-seed0/model.safetensors", b"\xff" * 100),
        ("trials/ce-fold0-seed0/witnesses.safetensors", b"\xff" * 100),
        ("trials/ce-fold0-seed0/history.csv", b"epoch\nx\n"),
        ("summary.csv", b"defense,drop_max,attack,metric,mean,std\n"),
    ],
)
def test_contents_of_another_kind_are_contradicted(name, content, written, tmp_path):
    assert is_contradicted(verify_dossier(altered(written, tmp_path / "a.zip", name, content)))


def test_endless_trials_are_not_listed(written, tmp_path):
    contents = Contents.of(written.path)
    contents.edit("study.yaml", "count: 2", "count: 1000000000000")
    last = verify_dossier(contents.write(tmp_path / "a.zip", hashes_too=True))[-1]
    assert is_contradicted([last])
    assert "1000000000000 trials" in last.detail


def test_what_is_no_dossier_is_refused(mirst, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for path in (tmp_path / "a.zip", tmp_path / "empty.zip", tmp_path / "missing.zip", tmp_path):
        assert "dossier" in refused(mirst("verify", path))


def test_no_code_that_it_names_is_run(written, phantoms, tmp_path, monkeypatch):
    (tmp_path / "evil_of_dossier.py").write_text("raise SystemExit('the code of a dossier ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    contents = Contents.of(written.path)
    contents.edit("study.yaml", "name: cnn_small", "name: evil_of_dossier:factory")
    contents.edit("study.yaml", "name: ce", "name: evil_of_dossier:Defense")
    contents.edit("study.yaml", "weights: random", "weights: /etc/passwd")
    manifest = json.loads(contents.files["manifest.json"])
    assert manifest["files"]
    answers = verify_dossier(contents.write(tmp_path / "a.zip", hashes_too=True), phantoms)
    assert is_contradicted(answers)
    assert "evil_of_dossier" not in sys.modules
