"""The page itself, in Gradio."""

import io
import math
import threading
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mirst.app.explore import ATTACKS, LARGEST, MOST_STEPS, Picture, Subject, View, answer, smallest_eps, view
from mirst.app.uploads import SUFFIXES, take
from mirst.data import ImageFile, Record, decode
from mirst.errors import MirstError

IDLE = 3600
"""Seconds after which what a visitor left is deleted."""
NOTICE = (
    "**This is no medical device.** It shows how image classifiers behave under attack; nothing here says anything "
    "about a patient."
)
HOW = (
    "Each model is attacked by itself, away from its own answer to the picture. An attack may change every pixel by at "
    "most eps of 255 gray levels. The smallest eps that turns an answer is the smallest that PGD found: the true one "
    "may be smaller still. Changes are magnified: red brighter, blue darker, full colour at eps."
)


class Chosen(NamedTuple):
    """What a visitor looks at."""

    image: Image.Image
    name: str
    truth: str | None
    """The class that it is filed as, where known."""
    smallest: list[float | None]
    """For each model."""


class Explorer:
    """What the page's controls call. The models are shared by all visitors, one computation at a time."""

    def __init__(self, subjects: Sequence[Subject], records: Sequence[Record]) -> None:
        ranges = {subject.card.value_range for subject in subjects}
        if len(ranges) > 1:
            raise MirstError("the two models were trained on different value ranges; explore each alone")
        (self.value_range,) = ranges
        self.subjects = subjects
        self.records = [replace(record, value_range=self.value_range) for record in records]
        self._lock = threading.Lock()

    def opening(self) -> Chosen | None:
        """The first image that all models answer as it is filed, of the positive class if any: it shows most."""
        positive = self.subjects[0].card.positive
        for record in sorted(self.records, key=lambda record: record.label != positive):
            image = decode(record.file, 3)
            if all(answer(subject, image) == record.label for subject in self.subjects):
                return self._chosen(image, record.name, record.label)
        return self.pick(0) if self.records else None

    def pick(self, number: int) -> Chosen:
        """An image of the gallery."""
        if number not in range(len(self.records)):
            raise MirstError(f"there is no picture {number} in the gallery")
        record = self.records[number]
        return self._chosen(decode(record.file, 3), record.name, record.label)

    def upload(self, sent: Path) -> Chosen:
        """A picture that was sent."""
        return self._chosen(take(sent, self.value_range), "The picture you sent", None)

    def show(self, chosen: Chosen, attack: str, levels: float, steps: float) -> list[View]:
        """The attack on every model."""
        with self._lock:
            return [view(subject, chosen.image, attack, levels / 255, int(steps)) for subject in self.subjects]

    def _chosen(self, image: Image.Image, name: str, truth: str | None) -> Chosen:
        with self._lock:
            return Chosen(image, name, truth, [smallest_eps(subject, image) for subject in self.subjects])


def build(explorer: Explorer) -> Any:
    """The page, a `gradio.Blocks`. What visitors send lives in their sessions alone."""
    opening = explorer.opening()
    with gr.Blocks(title="mirst explorer", analytics_enabled=False, delete_cache=(600, IDLE)) as page:
        gr.Markdown(f"# Why a high F1 is not enough\n{NOTICE}")
        chosen = gr.State(None, time_to_live=IDLE)
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                gallery = _gallery(explorer)
                sent = gr.File(label="Or send a PNG, JPEG or DICOM file", file_types=list(SUFFIXES), height=150)
                attack = gr.Dropdown(list(ATTACKS), value="PGD", label="Attack")
                levels = gr.Slider(0, 16, value=5, step=0.5, label="eps, in gray levels of 255")
                steps = gr.Slider(1, MOST_STEPS, value=20, step=1, label="Steps")
                gr.Markdown(HOW)
            with gr.Column(scale=5, min_width=320):
                shown = gr.HTML("<h2>Pick a picture</h2>", elem_id="shown")
        settings: list[Any] = [attack, levels, steps]
        outputs = [chosen, shown]

        def show(one: Chosen | None, *settings: Any) -> str:
            if one is None:
                raise MirstError("The picture went with the lost connection; pick it again.")
            return render(one, explorer.show(one, *settings))

        def first(one: Chosen | None, *settings: Any) -> list[Any]:
            return [one, show(one, *settings)]

        def opened(*settings: Any) -> Any:
            return _said(lambda: first(opening, *settings))

        def picked(event: gr.SelectData, *settings: Any) -> Any:
            return _said(lambda: first(explorer.pick(event.index), *settings))

        def uploaded(sent: dict[str, Any], *settings: Any) -> Any:
            return _said(lambda: first(explorer.upload(_arrived(sent, page)), *settings))

        def changed(one: Chosen | None, *settings: Any) -> Any:
            return _said(lambda: show(one, *settings))

        def left(request: gr.Request) -> None:
            page.state_holder.delete_state(request.session_hash)

        # What clients send is judged here: Gradio's own checks print stack traces.
        quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "preprocess": False}
        if gallery is not None:
            page.load(opened, settings, outputs, **quietly)
            gallery.select(picked, settings, outputs, **quietly)
        sent.upload(uploaded, [sent, *settings], outputs, **quietly).then(lambda: None, None, sent, **quietly)
        gr.on(
            [control.change for control in settings],
            changed,
            [chosen, *settings],
            shown,
            trigger_mode="always_last",
            **quietly,
        )
        page.unload(left)
    return page


def render(one: Chosen, views: Sequence[View]) -> str:
    """What the attack did, as HTML that holds its pictures."""
    environment = Environment(loader=PackageLoader("mirst.app"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"uri": _uri, "levels": _levels}
    found = [_smaller(smallest, seen) for smallest, seen in zip(one.smallest, views, strict=True)]
    return environment.get_template("explorer.html.j2").render(
        name=one.name, truth=one.truth, views=list(zip(views, found, strict=True))
    )


def _smaller(smallest: float | None, seen: View) -> float | None:
    """What the search found, or the attack that is shown."""
    return min(smallest or LARGEST, seen.distance) if seen.turned else smallest


def _levels(eps: float) -> str:
    """In units of 1/255, rounded up: what is an upper bound stays one."""
    return f"{math.ceil(25500 * eps - 1e-3) / 100:.2f}"


def _uri(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def _arrived(sent: dict[str, Any], page: gr.Blocks) -> Path:
    """Where Gradio put an upload.

    Raises:
        MirstError: the client names another file.
    """
    if sent["path"] not in page.upload_file_set:
        raise MirstError("The file did not arrive; send it again.")
    return Path(sent["path"])


def _gallery(explorer: Explorer) -> gr.Gallery | None:
    if not explorer.records:
        return None
    thumbnails = [(_thumbnail(record.file), record.label) for record in explorer.records]
    return gr.Gallery(
        thumbnails,
        label="Pictures",
        columns=3,
        height=260,
        format="png",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )


def _thumbnail(file: ImageFile) -> Image.Image:
    image = decode(file, 3)
    image.thumbnail((160, 160))
    return image


def _said(work: Callable[[], Any]) -> Any:
    """What `work` returns; where it fails, a sentence on the page, which stays as it was."""
    try:
        return work()
    except MirstError as error:
        gr.Warning(escape(str(error)))
    except Exception:  # noqa: BLE001 - a visitor gets a sentence, whatever failed
        gr.Warning("That did not work; try another picture or another attack.")
    return gr.skip()
