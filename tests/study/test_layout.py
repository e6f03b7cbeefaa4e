import ast
from pathlib import Path

import mirst
from mirst.study.layout import SUITES, StudyFolder, TrialFolder

SOURCE = Path(mirst.__file__).parent
OTHER_FOLDERS = {
    "cli/evaluation_input.py": "the results of one model outside a study",
    "report/evaluation.py": "the results of one model outside a study",
    "report/robustness.py": "the results of one model outside a study",
    "cli/certify.py": "the results of one model outside a study",
    "cli/evaluate_model.py": "the results of one model outside a study",
    "data/readers/prepared.py": "the records of a prepared folder",
    "export/hub_folder.py": "the files of a folder for a model hub",
    "app/demo_models.py": "checkpoints in the user's cache",
    "study/results.py": "the columns by the name of the table",
    "study/train_trial.py": "the files that mark the end",
    "study/reuse.py": "a table that is not copied",
    "study/cost.py": "a checkpoint in a temporary folder",
}
"""Modules that spell a file name of their own, and why."""


def paths(folder):
    """The paths of all files that the class names."""
    return [value for name in vars(type(folder)) if isinstance(value := getattr(folder, name), Path)]


def test_every_file_has_a_name_of_its_own():
    for folder in (StudyFolder(Path("study")), TrialFolder(Path("trial"))):
        found = paths(folder)
        assert len(set(found)) == len(found) > 5
        assert {path.parent for path in found} == {folder.path}


def test_no_other_module_spells_the_names():
    names = {path.name for folder in (StudyFolder(Path()), TrialFolder(Path())) for path in paths(folder)}
    names |= {f"{suite}.csv" for suite in SUITES}
    spelled = {}
    for file in sorted(SOURCE.rglob("*.py")):
        module = file.relative_to(SOURCE).as_posix()
        found = {
            node.value
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and node.value in names
        }
        if found and module != "study/layout.py":
            spelled[module] = found
    assert set(spelled) == set(OTHER_FOLDERS)
