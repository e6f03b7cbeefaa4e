"""The explorer, driven through an attack in a real browser."""

import re
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest
from PIL import Image

from mirst.nn import build_model, save_model
from tests.app.address import address_of
from tests.browser.conftest import serious
from tests.commands import started
from tests.helpers import CARD


@contextmanager
def served(checkpoints, data):
    pytest.importorskip("gradio", reason="mirst[app] is not installed; make browser installs it")
    process = started("app", *checkpoints, "--data", data)
    yield address_of(process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def address(browser, finished, phantoms):
    names = ("ce-fold0-seed0", "mirst+dm-fold0-seed0")
    with served([finished / "trials" / name / "model.safetensors" for name in names], phantoms) as running:
        yield running


@pytest.fixture(scope="module")
def lesion_address(browser, masked_phantoms, tmp_path_factory):
    """The explorer of a model of crops around lesions."""
    checkpoint = tmp_path_factory.mktemp("lesion") / "model.safetensors"
    save_model(checkpoint, build_model("resnet_tiny", 1, 2, drop_max=True), replace(CARD, view="lesion"))
    with served([checkpoint], masked_phantoms) as running:
        yield running


@pytest.fixture
def explorer(page, address):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    page.locator(".verdict").nth(1).wait_for()
    yield page
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def pick(page, number):
    page.locator(".grid-container button").nth(number).click()
    page.get_by_role("heading", name=f"phantom-{1 + number // 2:03d}.png, labelled").wait_for()


def set_eps(page, levels):
    field = page.get_by_role("spinbutton", name=re.compile("eps, in gray"))
    field.fill(str(levels))
    field.press("Enter")
    field.blur()


def test_an_attack_flips_a_prediction(explorer):
    assert "not a medical device" in explorer.locator("main, body").first.inner_text()
    pick(explorer, 1)
    set_eps(explorer, 0)
    explorer.locator(".verdict", has_text="does not change").nth(1).wait_for()
    set_eps(explorer, 16)
    explorer.locator(".verdict", has_text=re.compile("attack changes the .*prediction")).first.wait_for()
    assert explorer.locator("figure img").count() == 10
    with explorer.expect_download() as download:
        explorer.get_by_role("link", name="Download attacked-ce-fold0-seed0 as PNG").click()
    assert download.value.suggested_filename == "attacked-ce-fold0-seed0.png"
    with Image.open(download.value.path()) as picture:
        assert picture.size == (256, 256)


def test_the_keyboard_suffices(explorer):
    """A thumbnail, then eps by the arrow keys."""
    explorer.locator(".grid-container button").nth(1).focus()
    explorer.keyboard.press("Enter")
    explorer.get_by_role("heading", name="phantom-001.png, labelled malignant").wait_for()
    set_eps(explorer, 0)
    explorer.locator(".verdict", has_text="does not change").nth(1).wait_for()
    explorer.get_by_role("slider", name=re.compile("eps, in gray")).focus()
    for _ in range(32):
        explorer.keyboard.press("ArrowRight")
    explorer.locator(".verdict", has_text=re.compile("attack changes the .*prediction")).first.wait_for()


def test_a_bad_upload_gets_a_sentence_and_the_next_one_works(explorer, tmp_path, phantoms):
    bad = tmp_path / "cut.png"
    bad.write_bytes((phantoms / "benign" / "phantom-001.png").read_bytes()[:200])
    explorer.locator("input[type=file]").first.set_input_files(bad)
    explorer.get_by_text("cannot read the file as an image").wait_for()
    assert explorer.locator(".verdict").count() == 0
    explorer.locator("input[type=file]").first.set_input_files(phantoms / "benign" / "phantom-001.png")
    explorer.get_by_role("heading", name="Your image").wait_for()


def test_a_visitor_who_leaves_while_it_computes_harms_nobody(explorer, browser, address):
    for _ in range(3):
        context = browser.new_context()
        other = context.new_page()
        other.goto(address)
        other.locator(".grid-container button").nth(2).click()
        context.close()
    pick(explorer, 1)


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_reads_well(explorer, width, scheme):
    explorer.set_viewport_size({"width": width, "height": 1000})
    explorer.emulate_media(color_scheme=scheme)
    pick(explorer, 0)
    explorer.wait_for_timeout(500)
    assert explorer.evaluate("document.documentElement.scrollWidth") <= width
    assert serious(explorer) == []


def test_the_box_of_an_upload_is_drawn_and_changed_by_its_edges(page, lesion_address, phantoms):
    page.goto(lesion_address)
    page.get_by_text("The box goes around the mask").wait_for()
    page.locator("input[type=file]").first.set_input_files(phantoms / "benign" / "phantom-001.png")
    page.get_by_text("Nothing is classified").wait_for()
    picture = page.locator("#boxed svg")
    picture.scroll_into_view_if_needed()
    place, matrix = picture.bounding_box(), picture.evaluate("svg => svg.getScreenCTM().a")
    left, top = place["x"] + place["width"] / 4, place["y"] + place["height"] / 4
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + 40 * matrix, top + 30 * matrix)
    page.mouse.up()
    page.get_by_text("You gave the box.").wait_for()
    page.get_by_role("figure").filter(has_text="Crop").wait_for()
    edges = [float(page.get_by_label(name, exact=True).input_value()) for name in ("Left", "Top", "Right", "Bottom")]
    assert [edges[2] - edges[0], edges[3] - edges[1]] == pytest.approx([40, 30], abs=1)
    page.get_by_label("Right", exact=True).fill("100")
    page.get_by_role("button", name="Use these edges as the box").click()
    page.locator(f"#boxed rect[width='{100 - edges[0]}']").first.wait_for(state="attached")
    assert serious(page) == []


def test_a_model_of_whole_images_has_no_controls_of_a_box(explorer):
    assert explorer.locator("#boxed").count() == 0
    assert explorer.get_by_label("Left", exact=True).count() == 0
