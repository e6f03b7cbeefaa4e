"""The page itself, in Gradio."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mirst.app.box_controls import BoxControls, shown_box
from mirst.app.explore import ATTACKS, LARGEST, MOST_STEPS, Unseen, View
from mirst.app.explorer import Explorer, Selection
from mirst.app.uploads import SUFFIXES
from mirst.data import ImageFile, decode
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
    "prediction is the smallest that PGD found; the true one may be smaller. A certificate is a proof by interval "
    "bounds: the true one is larger. Changes are magnified: red is brighter, blue is darker, full colour is eps."
)


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
                boxed = BoxControls.place() if explorer.takes_boxes else None
                attack = gr.Dropdown(list(ATTACKS), value="PGD", label="Attack")
                levels = gr.Slider(0, 16, value=5, step=0.5, label="eps, in gray levels (255 = full range)")
                steps = gr.Slider(1, MOST_STEPS, value=20, step=1, label="Steps")
                gr.Markdown(HOW)
            with gr.Column(scale=5, min_width=320):
                shown = gr.HTML("<h2>Select an image</h2>", elem_id="shown")
        settings: list[Any] = [attack, levels, steps]
        outputs = [chosen, *(boxed.outputs if boxed else []), shown]

        def show(selection: Selection | None, *settings: Any) -> str:
            kept = _kept(selection)
            return render(kept, explorer.attack(kept, *settings))

        def first(selection: Selection | None, *settings: Any) -> list[Any]:
            return [selection, *(shown_box(_kept(selection)) if boxed else []), show(selection, *settings)]

        def opened(*settings: Any) -> Any:
            return with_message(lambda: first(opening, *settings))

        def picked(event: gr.SelectData, *settings: Any) -> Any:
            return with_message(lambda: first(explorer.pick(event.index), *settings))

        def uploaded(sent: dict[str, Any], *settings: Any) -> Any:
            return with_message(lambda: first(explorer.upload(_arrived(sent, page)), *settings))

        def drawn(event: gr.EventData, selection: Selection | None, *settings: Any) -> Any:
            return with_message(lambda: first(explorer.with_box(_kept(selection), event.edges), *settings))

        def entered(selection: Selection | None, *values: Any) -> Any:
            edges, settings = values[:4], values[4:]
            return with_message(lambda: first(explorer.with_box(_kept(selection), edges), *settings))

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
        if boxed:
            boxed.picture.input(drawn, [chosen, *settings], outputs, **quietly)
            boxed.given.click(entered, [chosen, *boxed.edges, *settings], outputs, **quietly)
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


def render(selection: Selection, views: Sequence[View | Unseen]) -> str:
    """The result of the attack as HTML, with its images inside."""
    environment = Environment(loader=PackageLoader("mirst.app"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"uri": lambda picture: image_uri(Image.fromarray(picture)), "levels": _levels}
    environment.filters["levels_below"] = _levels_below
    smallest = [_smaller(eps, view) for eps, view in zip(selection.smallest, views, strict=True)]
    return environment.get_template("explorer.html.j2").render(
        name=selection.name,
        truth=selection.truth,
        boxed=selection.box is not None,
        views=list(zip(views, smallest, selection.certified, strict=True)),
    )


def _kept(selection: Selection | None) -> Selection:
    """Raises `MirstError` if the server has forgotten the visitor."""
    if selection is None:
        raise MirstError("The connection was interrupted and the image is no longer available; select it again.")
    return selection


def _smaller(smallest: float | None, view: View | Unseen) -> float | None:
    """The smaller of the eps of the search and the distance of the attack that is shown."""
    return min(smallest or LARGEST, view.distance) if isinstance(view, View) and view.flipped else smallest


def _levels(eps: float) -> str:
    """In units of 1/255, rounded up, so that it remains an upper bound."""
    return f"{math.ceil(25500 * eps - 1e-3) / 100:.2f}"


def _levels_below(eps: float) -> str:
    """In units of 1/255, rounded down, so that it remains a lower bound."""
    return f"{math.floor(2550 * eps) / 10:.1f}"


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
