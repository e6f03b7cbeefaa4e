"""The report in a real browser, opened from disk with the network cut."""

import shutil

import pytest

from mirst.report import write_comparison, write_report
from tests.browser.conftest import serious


@pytest.fixture(scope="module")
def folder(browser, searched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "small"
    shutil.copytree(searched, folder)
    write_report(folder)
    return folder


@pytest.fixture
def report(page, folder):
    """The open page; any request but for the file itself fails the test."""
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.context.set_offline(True)
    page.goto((folder / "report.html").as_uri())
    yield page
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


def column(page, table, place):
    return page.locator(f"{table} tbody tr:visible :nth-child({place} of th, td)").all_inner_texts()


def test_it_opens_whole(report):
    assert report.locator("h1").inner_text() == "small"
    assert report.locator(".verdict p").count() >= 1
    assert report.locator("main > details[open]").count() == 0
    broken = report.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
    assert (broken, report.locator("img").count() > 5) == (0, True)
    missing = report.evaluate(
        "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
    )
    assert missing == 0


def test_headings_sort_up_and_down(report):
    table = "table.comparison"
    heading = report.locator(f"{table} th", has_text="F1 score, no attack")
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    falling = [float(text.split()[0]) for text in column(report, table, 2)]
    assert falling == sorted(falling, reverse=True)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [float(text.split()[0]) for text in column(report, table, 2)] == sorted(falling)


def test_the_keyboard_is_enough(report):
    report.keyboard.press("Tab")
    assert report.evaluate("document.activeElement.textContent") == "Skip to the content"
    report.keyboard.press("Enter")
    assert report.url.endswith("#main")
    first = report.locator("table.comparison th button").first
    first.focus()
    report.keyboard.press("Enter")
    names = column(report, "table.comparison", 1)
    assert names == sorted(names, reverse=True)


def test_rows_are_filtered(report):
    report.locator("#differences").click()  # unfolds the section
    before = report.locator("table.filterable").first.locator("tbody tr:visible").count()
    report.locator("label.filter input").first.fill("paper protocol")
    rows = report.locator("table.filterable").first.locator("tbody tr:visible")
    assert 0 < rows.count() < before
    assert all("paper protocol" in text for text in rows.all_inner_texts())
    assert report.locator("label.filter [role=status]").first.inner_text() == f"{rows.count()} of {before} rows"


def test_the_gallery_shows_its_images_and_opens_its_list(report):
    section = report.locator("details.section", has=report.locator("#gallery"))
    report.locator("nav a[href='#gallery']").click()
    assert section.locator(".gallery img").first.is_visible()
    assert section.locator(".gallery img").count() == 3 * section.locator(".gallery figure").count() > 0
    rows = section.locator("details tbody tr")
    assert not rows.first.is_visible()
    section.locator("details summary").first.press("Enter")
    assert rows.first.is_visible()
    eps = [float(text) for text in section.locator("details").first.locator("tbody td:nth-child(3)").all_inner_texts()]
    assert eps == sorted(eps)


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_reads_well(report, width, scheme):
    report.set_viewport_size({"width": width, "height": 1000})
    report.emulate_media(color_scheme=scheme)
    assert report.evaluate("document.documentElement.scrollWidth") <= width
    hidden = "[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert report.evaluate(f"{hidden}.every(e => !e.previousElementSibling.hidden)")
    assert serious(report) == []


def test_it_prints_on_white_without_controls(report):
    report.emulate_media(media="print", color_scheme="dark")
    assert report.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not report.locator("nav").is_visible()


def test_two_studies_side_by_side(page, folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    page.goto(write_comparison(folder, other).as_uri())
    assert "not significant" in page.locator("main table").inner_text()
    assert serious(page) == []
