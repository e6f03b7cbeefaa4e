"""A checklist as Markdown."""

import re
from itertools import groupby
from shlex import quote
from urllib.parse import quote as quoted

import pandas as pd

from mirst.errors import plain
from mirst.report.checklists.items import Checklist, Evidence, Item
from mirst.report.exports import markdown

AUTHOR = "author"
_SPECIAL = re.compile(r"[\\`*_\[\]<>&~#$]")
_COLUMNS = ["item", "what to report", "answer", "proof"]


def rendered(checklist: Checklist, study: Evidence) -> str:
    """The checklist with the answers of a study: a table for each section."""
    rows = [(item.section, _row(item, study)) for item in checklist.items]
    by_author = sum(row[2].startswith(AUTHOR) for _, row in rows)
    lines = [
        f"# {escaped(f'{checklist.title}: {study.results.folder.name}')}",
        "",
        f"A draft. The run answers {len(rows) - by_author} of {len(rows)} items, and the file beside each answer "
        f"proves it. The items marked {AUTHOR} are yours. Check every answer, and complete it where it says so. The "
        "numbers are those of the published checklist, and the titles are in other words. A group is the copies of one "
        "image, or the images of one patient or case.",
        "",
        escaped(checklist.source),
        "",
    ]
    for section, own in groupby(rows, key=lambda row: row[0]):
        lines += [f"## {section}", "", markdown(pd.DataFrame([row for _, row in own], columns=_COLUMNS))]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Plain text as Markdown shows it in a cell, whatever names it contains; `|` is left to the table.

    >>> escaped("a_b <i>")
    'a\\\\_b \\\\<i\\\\>'
    """
    return _SPECIAL.sub(lambda match: "\\" + match[0], plain(text))


def _row(item: Item, study: Evidence) -> tuple[str, ...]:
    answer = item.answer(study) if item.answer else None
    if answer is None:
        folder = quote(str(study.results.folder))
        command = item.command.replace("RESULTS", folder)
        hint = f"; to let the run answer: {_code(command)}" if command else ""
        return item.number, item.title, AUTHOR + hint, ""
    more = f" Author: {item.author}" if item.author else ""
    links = [f"[{escaped(file)}]({quoted(file)})" for file in dict.fromkeys(answer.files)]
    return item.number, item.title, escaped(answer.sentence + more), ", ".join(links)


def _code(command: str) -> str:
    """In a fence that is longer than any in the command."""
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))
    space = " " if "`" in command else ""
    return f"{fence}{space}{plain(command)}{space}{fence}"
