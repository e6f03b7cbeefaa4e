"""Sentences about the files of a data set folder that are not among its images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mirst.data.masks import is_mask, is_mask_folder
from mirst.data.readers.table import has_columns
from mirst.data.record import Record
from mirst.errors import plain

NAMED = 3
"""Names in a sentence."""
SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "icon\r"})
"""Files and folders of operating systems, in lower case."""


def is_hidden(path: Path) -> bool:
    """Whether the file or folder is hidden, or belongs to an operating system."""
    return path.name.startswith(".") or path.name.lower() in SYSTEM


def folder_contents(root: Path) -> Iterator[Path]:
    """Every file below `root`, apart from those in hidden folders.

    A link to a folder is followed in `root` itself, where class folders lie, and else given as it is.
    """
    for place, folders, files in os.walk(root):
        below = [Path(place, name) for name in sorted(folders)]
        folders[:] = [path.name for path in below if not is_hidden(path)]
        for link in (path for path in below if path.is_symlink() and not is_hidden(path)):
            yield from (p for p in link.iterdir() if not p.is_dir()) if link.parent == root else [link]
        yield from (Path(place, name) for name in sorted(files))


def left_out(root: Path, contents: Iterable[Path], records: Sequence[Record]) -> list[str]:
    """How many of the `contents` of `root` are not in `records`, with their names: masks, and other files."""
    used = {record.path for record in records}
    used |= {path.parent for path in used}  # which may be links
    names: dict[str, list[str]] = {"mask": [], "file": [], "hidden": []}
    for path in sorted(set(contents) - used):
        name = path.relative_to(root) if path.is_relative_to(root) else path
        mask = is_mask(name) or is_mask_folder(name.parent.name)
        names["hidden" if is_hidden(path) else "mask" if mask else "file"].append(plain(name.as_posix()))
    tables = [path for path in sorted(root.glob("*.[cC][sS][vV]")) if path.name in names["file"]]
    return [
        *(
            f"{plain(path.name)} lists images with labels; pass it as the data set to read them and their groups."
            for path in tables
            if has_columns(path, ("path", "label"))
        ),
        *_sentence(names["file"], "{} ignored: {}"),
        *_sentence(names["mask"], "{} not taken for images: {}", "mask"),
        *_sentence(names["hidden"], "{} ignored", "hidden or system file"),
    ]


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _sentence(names: Sequence[str], text: str, what: str = "file") -> list[str]:
    if not names:
        return []
    count = f"1 {what} was" if len(names) == 1 else f"{len(names)} {what}s were"
    return [text.format(count, listed(names)) + "."]
