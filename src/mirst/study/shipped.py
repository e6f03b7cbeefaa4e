"""The studies that come with the package."""

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "studies"
"""The folder of their files."""


def shipped_studies() -> dict[str, str]:
    """What each shipped study compares, a sentence by its name.

    >>> shipped_studies()["leakage"]
    'The defenses of busi-small on random folds, to measure the effect of leakage.'
    """
    return {path.stem: _first_line(path).removeprefix("# ") for path in sorted(SHIPPED.glob("*.yaml"))}


def find_study(name: str | Path) -> Path:
    """The file `name` if there is one; else the shipped study of that name; else `name` as it is.

    >>> find_study("busi-small").name
    'busi-small.yaml'
    """
    path, shipped = Path(name), SHIPPED / f"{name}.yaml"
    return shipped if str(name) in shipped_studies() and not path.is_file() else path


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().strip()
