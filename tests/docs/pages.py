"""The pages of the project, their fenced blocks, their headings and their links."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
}
"""The text of each, by its path from the root of the repository."""
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
SHELL = ("", "sh", "bash", "console")


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """The page and the text of each fenced block in one of the languages."""
    for name, text in PAGES.items():
        yield from ((name, found[3]) for found in BLOCK.finditer(text) if found[2] in languages)


def prose(name: str) -> str:
    """The page without its fenced blocks and its code in lines."""
    return re.sub(r"(`+)[^`]+?\1", "", BLOCK.sub("", PAGES[name]))


def anchors(name: str) -> set[str]:
    """Of the headings, as hosts of repositories make them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", PAGES[name]), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def links(name: str) -> list[str]:
    """Targets of links and images."""
    return re.findall(r"\]\(\s*<?([^)\s>]+)>?\s*\)", prose(name))
