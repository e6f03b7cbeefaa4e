"""A real browser: Debian's Chromium, driven by Playwright. `make browser` installs both."""

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:  # noqa: F821 - playwright may be missing
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing; make browser installs it")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is missing; make browser installs it")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:  # noqa: F821
    """A page that fails the test that leaves errors on its console."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    opened = context.new_page()
    errors: list[str] = []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert not errors


def serious(page: "Page", within: str | None = None) -> list[str]:  # noqa: F821
    """What axe-core finds on the page that is serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context=within).response["violations"]
    return [
        f"{one['id']}: {one['help']} ({one['nodes'][0]['html'][:200]})"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
