"""Links of the pages lead to files and headings that exist; those to other hosts are well formed."""

from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, anchors, links

INTERNAL = [(name, link) for name in PAGES for link in links(name) if not urlsplit(link).scheme]


def resolved(name: str, path: str) -> str:
    """The path from the root of the repository that `path` on the page means."""
    return (ROOT / name).parent.joinpath(path).resolve().relative_to(ROOT.resolve()).as_posix()


def test_there_are_links():
    assert len(INTERNAL) > 200


@pytest.mark.parametrize("name", sorted({name for name, _ in INTERNAL}))
def test_internal_links_lead_somewhere(name):
    for link in [link for page, link in INTERNAL if page == name]:
        path, _, anchor = link.partition("#")
        target = resolved(name, path) if path else name
        assert (ROOT / target).exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_site_holds_all_that_its_pages_link_to():
    """A link out of `docs/` works in the repository, but not in the site."""
    out = [(name, link) for name, link in INTERNAL if name.startswith("docs/") and link.startswith("../")]
    assert [(name, link) for name, link in out if not resolved(name, link.partition("#")[0]).startswith("docs/")] == []


def test_links_to_other_hosts_are_well_formed():
    outer = [urlsplit(link) for name in PAGES for link in links(name) if urlsplit(link).scheme not in ("", "mailto")]
    assert len(outer) > 5
    assert {one.scheme for one in outer} == {"https"}
    assert all("." in one.netloc and one.netloc.isascii() for one in outer)


def navigated(entries: list) -> list[str]:
    """The pages of the navigation."""
    values = [next(iter(entry.values())) if isinstance(entry, dict) else entry for entry in entries]
    return [page for value in values for page in (navigated(value) if isinstance(value, list) else [value])]


def test_every_page_is_in_the_navigation_once():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [str(PurePosixPath(name).relative_to("docs")) for name in PAGES if name.startswith("docs/")]
    assert sorted(navigated(config["nav"])) == sorted(pages)
