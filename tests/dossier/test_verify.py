import hashlib
import shutil
import zipfile

import pandas as pd

from mirst.dossier import Verdict, is_contradicted, verify_dossier, write_dossier
from mirst.study import Local, search_witnesses
from tests.dossier.conftest import Contents


def by_claim(answers):
    return {answer.claim: answer for answer in answers}


def test_an_honest_dossier_is_proved_with_the_images(written, phantoms):
    answers = verify_dossier(written.path, phantoms)
    assert not is_contradicted(answers)
    proved = {answer.claim for answer in answers if answer.verdict == Verdict.PROVED}
    assert proved == {"groups", "balls", "certified", "images", "witnesses", "bounds", "largest eps"}
    assert [answer.claim for answer in answers if answer.verdict == Verdict.UNCHECKED] == ["the rest"]
    assert written.digest in by_claim(answers)["files"].detail
    assert f"{written.witnesses} misclassify" in by_claim(answers)["witnesses"].detail


def test_every_misclassified_row_has_a_witness(written):
    assert written.claims > written.witnesses > 0 == written.unwitnessed


def test_images_are_found_under_any_name(written, phantoms, tmp_path):
    for number, path in enumerate(sorted(phantoms.rglob("*.png"))):
        shutil.copy(path, tmp_path / f"{number}.bin")
    answers = by_claim(verify_dossier(written.path, tmp_path))
    assert answers["images"].detail.startswith("24 of 24")
    assert answers["witnesses"].verdict == Verdict.PROVED
    assert answers["data set"].verdict == Verdict.UNCHECKED


def test_the_folder_of_the_data_set_may_have_another_name(written, phantoms, tmp_path):
    data = shutil.copytree(phantoms, tmp_path / "renamed")
    assert by_claim(verify_dossier(written.path, data))["data set"].verdict == Verdict.RECOMPUTED


def test_a_data_set_with_other_images_is_not_compared(written, phantoms, tmp_path):
    data = shutil.copytree(phantoms, tmp_path / "more")
    shutil.copy(data / "benign" / "phantom-001.png", data / "benign" / "one-more.png")
    answers = by_claim(verify_dossier(written.path, data))
    assert answers["data set"].verdict == Verdict.UNCHECKED
    assert "1 images that are not in the dossier" in answers["data set"].detail


def test_without_images_the_models_are_not_checked(written):
    answers = by_claim(verify_dossier(written.path))
    assert answers["images"].verdict == Verdict.UNCHECKED
    assert answers["balls"].verdict == Verdict.PROVED
    assert "witnesses" not in answers


def test_a_part_of_the_images_proves_its_part(written, phantoms, tmp_path):
    shutil.copytree(phantoms / "benign", tmp_path / "benign")
    answers = by_claim(verify_dossier(written.path, tmp_path))
    assert answers["images"].detail.startswith("12 of 24")
    assert answers["other images"].verdict == Verdict.UNCHECKED
    assert answers["rows without attack"].detail.startswith("12 ")


def test_no_image_is_in_the_archive(written, phantoms):
    files = Contents.of(written.path).files
    assert not [name for name in files if name.endswith((".npz", ".png")) or name.startswith("images/")]
    assert len(list(phantoms.rglob("*.png"))) == 24
    for path in phantoms.rglob("*.png"):
        assert not [name for name, content in files.items() if path.read_bytes() in content]


def test_the_images_come_with_it_if_asked(certified_study, phantoms, tmp_path):
    with_images = write_dossier(certified_study, tmp_path / "a.zip", with_images=True, engine=Local(1))
    with zipfile.ZipFile(with_images.path) as archive:
        images = [name for name in archive.namelist() if name.startswith("images/")]
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in phantoms.rglob("*.png")}
    assert {name.removeprefix("images/").removesuffix(".png") for name in images} == digests
    answers = by_claim(verify_dossier(with_images.path))
    assert answers["images"].detail.startswith("24 of 24")
    assert answers["witnesses"].verdict == Verdict.PROVED


def test_the_same_study_gives_the_same_archive(certified_study, written, tmp_path):
    again = write_dossier(certified_study, tmp_path / "again.zip", engine=Local(1))
    assert again.path.read_bytes() == written.path.read_bytes()


def test_witnesses_are_searched_again_only_where_they_are_missing(certified_study, written, tmp_path):
    study, seen = shutil.copytree(certified_study, tmp_path / "study"), []
    before = (study / "witnesses.csv").read_bytes()
    (study / "trials" / "ce-fold1-seed0" / "witnesses.json").write_text('{"outcomes.csv": "of other rows"}')
    search_witnesses(study, engine=Local(1), on_trial=seen.append)
    assert seen == ["ce-fold1-seed0"]
    assert (study / "witnesses.csv").read_bytes() == before


def test_the_table_of_witnesses_is_that_of_the_study(certified_study, written):
    rows = pd.read_csv(certified_study / "witnesses.csv")
    assert len(rows) == written.witnesses
    assert (rows["unit"] <= rows["eps"] + 1e-12).all()
    assert (rows["lead"] > 0).all()


def test_the_command_says_it_line_by_line(mirst, written, phantoms, tmp_path):
    code, out, _ = mirst("verify", written.path, "--data", phantoms)
    assert code == 0
    assert "proved: groups: none of" in out
    contents = Contents.of(written.path)
    contents.edit("summary.csv", "ce,False,none", "ce,True,none")
    code, out, _ = mirst("verify", contents.write(tmp_path / "a.zip", hashes_too=True))
    assert code == 1
    assert "CONTRADICTED: metrics: " in out


def test_the_command_writes_it(mirst, certified_study, tmp_path):
    code, out, _ = mirst("dossier", certified_study, "--out", tmp_path / "a.zip", "--jobs", 1)
    assert code == 0
    assert "2 models. " in out
    assert not is_contradicted(verify_dossier(tmp_path / "a.zip"))
