"""The page itself, in Gradio."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mirst.app.explore import (
    ATTACKS,
    LARGEST,
    MOST_STEPS,
    ExploredModel,
    View,
    attack_image,
    prediction,
    smallest_eps,
)
from mirst.app.uploads import SUFFIXES, take
from mirst.data import ImageFile, Record, decode
from mirst.errors import MirstError
from mirst.report.figures import image_uri

IDLE = 3600
"""Seconds after which the data of a visitor are deleted."""
NOTICE = (
    "**This is not a medical device.** It shows how image classifiers behave under attack and must not be used "
    "to draw conclusions about a patient."
)
HOW = (
    "Each model is attacked separately. The attack tries to change the model's own prediction for the image. "
    "An attack may change every pixel by at most eps gray levels (out of 255). The smallest eps that flips a "
    "prediction is the smallest that PGD found; the true one may be smaller. Changes are magnified: red is brighter, "
    "blue is darker, full colour is eps."
)


class Selection(NamedTuple):
    """The image that a visitor has selected."""

    image: Image.Image
    name: str
    truth: str | None
    """Its label, if known."""
    smallest: list[float | None]
    """The smallest eps that flips the prediction of each model; `None` if none was found."""


class Explorer:
    """The functions behind the controls of the page. All visitors share the models; computations run one at a time."""

    def __init__(self, models: Sequence[ExploredModel], records: Sequence[Record]) -> None:
        ranges = {model.card.value_range for model in models}
        if len(ranges) > 1:
            raise MirstError("the two models were trained on different value ranges; explore each alone")
        (self.value_range,) = ranges
        self.models = models
        self.records = [replace(record, value_range=self.value_range) for record in records]
        self._lock = threading.Lock()

    def opening(self) -> Selection | None:
        """The first image that all models predict correctly, of the positive class if possible."""
        positive = self.models[0].card.positive
        for record in sorted(self.records, key=lambda record: record.label != positive):
            image = decode(record.file, 3)
            if all(prediction(model, image) == record.label for model in self.models):
                return self._chosen(image, record.name, record.label)
        return self.pick(0) if self.records else None

    def pick(self, number: int) -> Selection:
        """An image of the gallery."""
        if number not in range(len(self.records)):
            raise MirstError(f"there is no image {number} in the gallery")
        record = self.records[number]
        return self._chosen(decode(record.file, 3), record.name, record.label)

    def upload(self, sent: Path) -> Selection:
        """An uploaded image."""
        return self._chosen(take(sent, self.value_range), "Your image", None)

    def attack(self, chosen: Selection, attack: str, levels: float, steps: float) -> list[View]:
        """The attack on every model."""
        with self._lock:
            return [attack_image(model, chosen.image, attack, levels / 255, int(steps)) for model in self.models]

    def _chosen(self, image: Image.Image, name: str, truth: str | None) -> Selection:
        with self._lock:
            return Selection(image, name, truth, [smallest_eps(model, image) for model in self.models])


def build(explorer: Explorer) -> Any:
    """The page, a `gradio.Blocks`. Uploads are stored in the session of their visitor only."""
    opening = explorer.opening()
    with gr.Blocks(title="mirst explorer", analytics_enabled=False, delete_cache=(600, IDLE)) as page:
        gr.Markdown(f"# mirst explorer: attacks on single images\n{NOTICE}")
        chosen = gr.State(None, time_to_live=IDLE)
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                gallery = _gallery(explorer)
                sent = gr.File(label="Upload a PNG, JPEG or DICOM file", file_types=list(SUFFIXES), height=150)
                attack = gr.Dropdown(list(ATTACKS), value="PGD", label="Attack")
                levels = gr.Slider(0, 16, value=5, step=0.5, label="eps, in gray levels (255 = full range)")
                steps = gr.Slider(1, MOST_STEPS, value=20, step=1, label="Steps")
                gr.Markdown(HOW)
            with gr.Column(scale=5, min_width=320):
                shown = gr.HTML("<h2>Select an image</h2>", elem_id="shown")
        settings: list[Any] = [attack, levels, steps]
        outputs = [chosen, shown]

        def show(selection: Selection | None, *settings: Any) -> str:
            if selection is None:
                raise MirstError(
                    "The connection was interrupted and the image is no longer available; select it again."
                )
            return render(selection, explorer.attack(selection, *settings))

        def first(selection: Selection | None, *settings: Any) -> list[Any]:
            return [selection, show(selection, *settings)]

        def opened(*settings: Any) -> Any:
            return with_message(lambda: first(opening, *settings))

        def picked(event: gr.SelectData, *settings: Any) -> Any:
            return with_message(lambda: first(explorer.pick(event.index), *settings))

        def uploaded(sent: dict[str, Any], *settings: Any) -> Any:
            return with_message(lambda: first(explorer.upload(_arrived(sent, page)), *settings))

        def changed(selection: Selection | None, *settings: Any) -> Any:
            return with_message(lambda: show(selection, *settings))

        def left(request: gr.Request) -> None:
            page.state_holder.delete_state(request.session_hash)

        # Input of clients is checked here: Gradio's own checks print stack traces.
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


def render(selection: Selection, views: Sequence[View]) -> str:
    """The result of the attack as HTML, with its images inside."""
    environment = Environment(loader=PackageLoader("mirst.app"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"uri": lambda picture: image_uri(Image.fromarray(picture)), "levels": _levels}
    smallest = [_smaller(eps, view) for eps, view in zip(selection.smallest, views, strict=True)]
    return environment.get_template("explorer.html.j2").render(
        name=selection.name, truth=selection.truth, views=list(zip(views, smallest, strict=True))
    )


def _smaller(smallest: float | None, view: View) -> float | None:
    """The smaller of the eps of the search and the distance of the attack that is shown."""
    return min(smallest or LARGEST, view.distance) if view.flipped else smallest


def _levels(eps: float) -> str:
    """In units of 1/255, rounded up, so that it remains an upper bound."""
    return f"{math.ceil(25500 * eps - 1e-3) / 100:.2f}"


def _arrived(sent: dict[str, Any], page: gr.Blocks) -> Path:
    """The path under which Gradio has stored an upload.

    Raises:
        MirstError: the client gives the path of another file.
    """
    if sent["path"] not in page.upload_file_set:
        raise MirstError("The upload failed; upload the file again.")
    return Path(sent["path"])


def _gallery(explorer: Explorer) -> gr.Gallery | None:
    if not explorer.records:
        return None
    thumbnails = [(_thumbnail(record.file), record.label) for record in explorer.records]
    return gr.Gallery(
        thumbnails,
        label="Images",
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


def with_message(work: Callable[[], Any]) -> Any:
    """The result of `work`. If it fails, a message on the page, which does not change otherwise."""
    try:
        return work()
    except MirstError as error:
        gr.Warning(escape(str(error)))
    except Exception:  # noqa: BLE001 - visitors get a message, whatever failed
        gr.Warning("The computation failed; try another image or another attack.")
    return gr.skip()
