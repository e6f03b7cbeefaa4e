"""A folder to upload to a model hub: checkpoint, model card and configuration."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

from mirst.errors import MirstError
from mirst.files import new_folder, write_text
from mirst.nn import read_card

CARD = "MODEL_CARD.md"
"""Beside a checkpoint."""
CHECKPOINT = "model.safetensors"
LICENSE = "unknown"
"""The hub's identifier where nobody has said which one it is."""
_FRONT = re.compile(r"---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)


def to_hub_folder(checkpoint: Path, out: Path, license: str | None = None) -> None:
    """Write the new folder `out`, whose `README.md` has the metadata that the hub reads. No code of a model is run.

    Args:
        license: identifier of the hub for the licence of the weights, such as `apache-2.0`.

    Raises:
        MirstError: no checkpoint, no `MODEL_CARD.md` beside it, no such identifier, or a folder that exists already.
    """
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise MirstError(
            f"--license is {license}; give an identifier of the hub in lower case, such as apache-2.0, mit, "
            "cc-by-nc-4.0 or other"
        )
    card = read_card(checkpoint)
    readme = _readme(checkpoint, license or LICENSE)
    config = {"library_name": "mirst", "mirst_version": version("mirst"), **card.entries()}
    with new_folder(out) as folder:
        shutil.copyfile(checkpoint, folder / CHECKPOINT)
        write_text(folder / "README.md", readme)
        write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _readme(checkpoint: Path, license: str) -> str:
    path = checkpoint.with_name(CARD)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MirstError(
            f"--to hub-folder needs {path}, which mirst writes beside a checkpoint; copy it there ({error})"
        ) from error
    front = _FRONT.match(text)
    if front is None:
        raise MirstError(f"{path} does not begin with metadata between two lines ---; copy the one that mirst wrote")
    entries = re.sub(r"^license:.*\n", "", front[1], flags=re.MULTILINE)
    body = text[front.end() :].replace(checkpoint.name, CHECKPOINT)
    return f"---\nlicense: {license}\n{entries}---\n{body}"
