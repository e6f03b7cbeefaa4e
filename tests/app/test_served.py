"""The running explorer, as clients reach it over HTTP, well-meaning or not."""

import base64
import html
import io
import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from mirst.nn import build_model, save_model
from tests.app.address import address_of
from tests.commands import started
from tests.helpers import CARD

pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="mirst[app] is not installed")

SETTINGS = ["PGD", 5, 3]
NO_IMAGE = "There is no image: the upload was refused or the connection was interrupted. Select or upload one."


class Served:
    """`mirst app` in a process of its own, temporary files in a folder of its own."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self.process = started("app", *arguments, TMPDIR=str(folder))
        self.address = address_of(self.process)
        self.config = requests.get(f"{self.address}config", timeout=30).json()

    def files(self):
        return {path for path in self.folder.rglob("*") if path.is_file()}

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate()[1]


class Visitor:
    """One session."""

    def __init__(self, served, name):
        self.served, self.name = served, name
        self.api = f"{served.address}gradio_api"

    def does(self, event, data, **more):
        """What comes of an event: the HTML shown."""
        asked = self.asks(event, data, **more)
        with requests.get(
            f"{self.api}/queue/data", params={"session_hash": self.name}, stream=True, timeout=60
        ) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix(b"data: ")) if line else {}
                if message.get("event_id") != asked:
                    continue
                if message.get("msg") == "process_completed":
                    return message["output"]["data"][-1]
        raise AssertionError("the server hung up")

    def asks(self, event, data, **more):
        number = next(
            one["id"] for one in self.served.config["dependencies"] if any(event == name for _, name in one["targets"])
        )
        body = {"data": data, "fn_index": number, "session_hash": self.name, "trigger_id": 0, **more}
        return requests.post(f"{self.api}/queue/join", json=body, timeout=30).json()["event_id"]

    def picks(self, index):
        return self.does("select", SETTINGS, event_data={"index": index, "value": None})

    def sends(self, content, name="sent.png"):
        """What the upload is answered."""
        return requests.post(f"{self.api}/upload", files={"files": (name, content)}, timeout=60)

    def uploads(self, content, name="sent.png"):
        return self.names(self.sends(content, name).json()[0])

    def names(self, path):
        return self.does("upload", [{"path": path, "meta": {"_type": "gradio.FileData"}}, *SETTINGS])


@pytest.fixture(scope="module")
def served(finished, phantoms, tmp_path_factory):
    checkpoints = [finished / "trials" / f"{name}-fold0-seed0" / "model.safetensors" for name in ("ce", "mirst+dm")]
    running = Served(tmp_path_factory.mktemp("served"), *checkpoints, "--data", phantoms)
    yield running
    errors = running.end()
    assert running.process.returncode == 0
    assert "Traceback" not in errors
    assert running.files() == set()


def refusal_in(shown):
    """The sentence of a refusal, without any result beside it."""
    assert "<section" not in shown
    return html.unescape(re.search(r'role="alert">(.+)</p>$', shown)[1])


def png(level):
    buffer = io.BytesIO()
    Image.new("L", (32, 32), level).save(buffer, format="png")
    return buffer.getvalue()


def level_shown(page):
    """The gray level of the first picture on the page."""
    data = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    return int(np.median(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))))


def test_a_pick_is_shown_for_both_models(served):
    shown = Visitor(served, "one").picks(3)
    assert shown.count("<section") == 2
    assert shown.count("<img") == 10
    assert "labelled " in shown


def test_visitors_at_once_never_see_one_another(served):
    def visit(level):
        visitor = Visitor(served, f"level-{level}")
        first = visitor.uploads(png(level))
        return level_shown(first), level_shown(visitor.does("change", [None, *SETTINGS]))

    levels = [20, 60, 100, 140]
    with ThreadPoolExecutor(4) as visitors:
        assert list(visitors.map(visit, levels)) == [(level, level) for level in levels]


@pytest.mark.parametrize("name", ["sent.png", "../../../../tmp/evil.png", "/etc/evil.png", "a\\..\\b.png", "x" * 300])
def test_an_upload_leaves_nothing_whatever_its_name(served, name):
    before = served.files()
    assert level_shown(Visitor(served, "named").uploads(png(77), name)) == 77
    assert served.files() == before
    assert not Path("/tmp/evil.png").exists()


def test_what_is_no_picture_gets_a_sentence_and_leaves_nothing(served):
    before = served.files()
    for content in (b"no picture", png(9)[:50], b"\x89PNG\r\n\x1a\n" + bytes(100)):
        sentence = refusal_in(Visitor(served, "bad").uploads(content, "bad.png"))
        assert str(served.folder) not in sentence
    assert served.files() == before
    too_many = Visitor(served, "bad").sends(bytes(21 * 2**20))
    assert too_many.status_code == 413
    assert served.files() == before


def test_files_that_were_not_uploaded_are_neither_read_nor_deleted(served):
    thumbnail = next(iter(served.files()))
    assert refusal_in(Visitor(served, "thief").names(str(thumbnail))) == "The upload failed; upload the file again."
    assert thumbnail.exists()


def test_nonsense_gets_a_sentence(served):
    visitor = Visitor(served, "odd")
    assert refusal_in(visitor.picks(10**6)) == "there is no image 1000000 in the gallery"
    visitor.picks(0)
    for settings in (["bfg", 5, 3], ["PGD", 99, 3], ["PGD", -1, 3], ["PGD", 5, 10**9], ["PGD", "five", None]):
        assert refusal_in(visitor.does("change", [None, *settings]))
    assert "<section" in visitor.does("change", [None, *SETTINGS])  # the image is kept


def test_a_visitor_without_a_picture_is_told(served):
    assert refusal_in(Visitor(served, "new").does("change", [None, *SETTINGS])) == NO_IMAGE


def test_after_a_refused_upload_the_image_before_it_is_gone(served):
    visitor = Visitor(served, "refused")
    visitor.picks(0)
    assert "<section" not in visitor.uploads(b"no picture")
    assert refusal_in(visitor.does("change", [None, *SETTINGS])) == NO_IMAGE
    visitor.picks(0)
    assert refusal_in(visitor.does("clear", [])) == "The file is larger than 20 MB; upload a smaller one."
    assert refusal_in(visitor.does("change", [None, *SETTINGS])) == NO_IMAGE


def test_who_leaves_is_forgotten_and_holds_nobody_up(served):
    leaving = Visitor(served, "leaving")
    alive = requests.get(f"{leaving.api}/heartbeat/leaving", stream=True, timeout=30)
    assert "<section" in leaving.uploads(png(50))
    leaving.asks("change", [None, "Square (no gradients; five queries a step)", 5, 100])
    alive.close()
    assert "<section" in Visitor(served, "next").picks(1)
    for _ in range(20):
        told = leaving.does("change", [None, *SETTINGS])
        if "<section" not in told:
            break
        time.sleep(0.2)
    assert refusal_in(told) == NO_IMAGE


@pytest.fixture(scope="module")
def lesions(masked_phantoms, tmp_path_factory):
    """The explorer of a model of crops around lesions."""
    checkpoint = tmp_path_factory.mktemp("lesion") / "model.safetensors"
    save_model(checkpoint, build_model("resnet_tiny", 1, 2, drop_max=True), replace(CARD, view="lesion"))
    running = Served(tmp_path_factory.mktemp("served"), checkpoint, "--data", masked_phantoms)
    yield running
    errors = running.end()
    assert "Traceback" not in errors
    assert running.files() == set()


def test_the_box_is_drawn_or_entered(lesions):
    before = lesions.files()
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.uint8([40, 200]), 32)[None].repeat(64, 0)).save(buffer, format="png")
    visitor = Visitor(lesions, "draws")
    assert "draw the box of the lesion" in visitor.uploads(buffer.getvalue())
    held = [None, *SETTINGS]
    assert level_shown(visitor.does("input", held, event_data={"edges": [4, 4, 20, 20]})) == 40
    assert level_shown(visitor.does("input", held, event_data={"edges": [44.5, 4, 60.25, 20]})) == 200
    assert level_shown(visitor.does("click", [None, 4, 4, 20, 20, *SETTINGS])) == 40
    assert level_shown(visitor.does("change", held)) == 40
    assert lesions.files() == before


def test_what_is_no_box_gets_a_sentence(lesions):
    visitor = Visitor(lesions, "no box")
    visitor.picks(0)
    held = [None, *SETTINGS]
    for edges in ([1, 2, 3], [9, 9, 9, 9], ["<b>", 0, 9, 9], [500, 0, 600, 9], 5, None):
        assert refusal_in(visitor.does("input", held, event_data={"edges": edges}))
    told = visitor.does("click", [None, None, 4, 20, 20, *SETTINGS])
    assert refusal_in(told) == "A box has four edges; enter all of them."
    assert "<section" in visitor.does("change", held)  # with the box before


def test_a_box_without_an_image_gets_a_sentence(lesions):
    told = Visitor(lesions, "nobody").does("input", [None, *SETTINGS], event_data={"edges": [4, 4, 20, 20]})
    assert refusal_in(told) == NO_IMAGE


def test_only_models_of_crops_have_controls_of_a_box(lesions, served):
    for running, fields in ((served, 0), (lesions, 4)):
        labels = [part["props"].get("label") for part in running.config["components"]]
        assert "Steps" in labels
        assert sum(label in ("Left", "Top", "Right", "Bottom") for label in labels) == fields
