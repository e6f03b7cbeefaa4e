"""The report of a dossier: without images of patients, and without the place where it was written."""

import re
from pathlib import Path

from mirst.files import write_text
from mirst.report import write_report

_PICTURE = re.compile(r"data:image/[\w+.-]+;base64,[A-Za-z0-9+/=]*")


def write_plain_report(place: Path) -> None:
    """Write the report of the study in `place`, which it calls by its name alone."""
    page = write_report(place)
    write_text(page, page.read_text(encoding="utf-8").replace(str(place), place.name))


def without_pictures(page: str) -> str:
    """The page without its charts, whose bytes depend on the fonts and versions of a machine.

    >>> without_pictures('<img src="data:image/png;base64,AAAA">')
    '<img src="">'
    """
    return _PICTURE.sub("", page)
