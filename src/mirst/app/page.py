"""The page itself, in Gradio."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mirst.app.box_controls import BoxControls, no_box, shown_box
from mirst.app.explore import ATTACKS, LARGEST, MOST_STEPS, Unseen, View
from mirst.app.explorer import Explorer, Selection
from mirst.app.probabilities import COVERAGE, cut, in_every_set
from mirst.app.uploads import MAX_BYTES, TOO_LARGE
from mirst.data import ImageFile, decode
from mirst.errors import MirstError
from mirst.report.figures import image_uri

IDLE = 3600
"""Seconds after which the data of a visitor are deleted."""
NOTICE = (
    "**This is not a medical device.** It shows how image classifiers behave under attack and must not be used "
    "to draw conclusions about a patient."
)
ATTACK = "An attack changes the pixels a little, on purpose, so that the model predicts another class."
EPS = "The most that the attack may change any pixel, in gray levels; 255 is the whole range from black to white."
STEP = "How often the attack improves its change; more steps take longer."
HOW = (
    "Each model is attacked separately. The attack tries to change the model's own prediction for the image. "
    "The smallest eps at which an attack changes a prediction is the smallest that PGD found; the true one may be "
    "smaller. A certificate is a proof by interval bounds, rounding included; it may hold at a larger eps than the one "
    "shown. Changes are magnified: red is brighter, blue is darker, full colour is eps."
)
WATCH = Path(__file__).with_name("templates") / "upload.js"


def build(explorer: Explorer) -> Any:
    """The page, a `gradio.Blocks`. Uploads are stored in the session of their visitor only."""
    opening = explorer.opening()
    with gr.Blocks(title="mirst explorer", analytics_enabled=False, delete_cache=(600, IDLE)) as page:
        gr.Markdown(f"# mirst explorer: attacks on single images\n{NOTICE}")
        chosen = gr.State(None, time_to_live=IDLE)
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                gallery = _gallery(explorer)
                sent = gr.File(label="Upload a PNG, JPEG or DICOM file", height=150)
                boxed = BoxControls.place() if explorer.takes_boxes else None
                attack = gr.Dropdown(list(ATTACKS), value="PGD", label="Attack", info=ATTACK)
                levels = gr.Slider(0, 16, value=5, step=0.5, label="eps, in gray levels", info=EPS)
                steps = gr.Slider(1, MOST_STEPS, value=20, step=1, label="Steps", info=STEP)
                gr.Markdown(HOW)
            with gr.Column(scale=5, min_width=320):
                watch = WATCH.read_text(encoding="utf-8").replace("MAX_BYTES", str(MAX_BYTES))
                shown = gr.HTML("<h2>Select an image</h2>", js_on_load=watch, elem_id="shown")
        settings: list[Any] = [attack, levels, steps]
        outputs = [chosen, *(boxed.outputs if boxed else []), shown]

        def show(selection: Selection | None, *settings: Any) -> str:
            kept = _kept(selection)
            return render(kept, explorer.attack(kept, *settings))

        def first(selection: Selection | None, *settings: Any) -> list[Any]:
            return [selection, *(shown_box(_kept(selection)) if boxed else []), show(selection, *settings)]

        def refused(sentence: str) -> list[Any]:
            return [None, *(no_box() if boxed else []), refusal(sentence)]

        def kept(sentence: str) -> list[Any]:
            return [*(gr.skip() for _ in outputs[:-1]), refusal(sentence)]

        def opened(*settings: Any) -> Any:
            return answered(lambda: first(opening, *settings), refused)

        def picked(event: gr.SelectData, *settings: Any) -> Any:
            return answered(lambda: first(explorer.pick(event.index), *settings), refused)

        def uploaded(sent: dict[str, Any], *settings: Any) -> Any:
            return answered(lambda: first(explorer.upload(_arrived(sent, page)), *settings), refused)

        def too_large() -> Any:
            return refused(TOO_LARGE)

        def drawn(event: gr.EventData, selection: Selection | None, *settings: Any) -> Any:
            return answered(lambda: first(explorer.with_box(_kept(selection), event.edges), *settings), kept)

        def entered(selection: Selection | None, *values: Any) -> Any:
            edges, settings = values[:4], values[4:]
            return answered(lambda: first(explorer.with_box(_kept(selection), edges), *settings), kept)

        def changed(selection: Selection | None, *settings: Any) -> Any:
            return answered(lambda: show(selection, *settings), refusal)

        def left(request: gr.Request) -> None:
            page.state_holder.delete_state(request.session_hash)

        # Input of clients is checked here: Gradio's own checks print stack traces.
        quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "preprocess": False}
        if gallery is not None:
            page.load(opened, settings, outputs, **quietly)
            gallery.select(picked, settings, outputs, **quietly)
        sent.upload(uploaded, [sent, *settings], outputs, **quietly).then(lambda: None, None, sent, **quietly)
        shown.clear(too_large, None, outputs, **quietly)
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
    environment.filters |= {"levels_below": _levels_below, "cut": cut, "in_every_set": in_every_set}
    smallest = [_smaller(eps, view) for eps, view in zip(selection.smallest, views, strict=True)]
    return environment.get_template("explorer.html.j2").render(
        name=selection.name,
        truth=selection.truth,
        boxed=selection.box is not None,
        coverage=COVERAGE,
        views=list(zip(views, smallest, selection.certified, selection.seen, strict=True)),
    )


def _kept(selection: Selection | None) -> Selection:
    """Raises `MirstError` if the server has forgotten the visitor."""
    if selection is None:
        raise MirstError(
            "There is no image: the upload was refused or the connection was interrupted. Select or upload one."
        )
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


def refusal(sentence: str) -> str:
    """What is shown instead of a result, as HTML."""
    return f'<h2>No result</h2><p role="alert">{escape(sentence)}</p>'


def answered(work: Callable[[], Any], instead: Callable[[str], Any]) -> Any:
    """The result of `work`; if it fails, that of `instead` for the reason: no old result stays on the page."""
    try:
        return work()
    except MirstError as error:
        return instead(str(error))
    except Exception:  # noqa: BLE001 - visitors get a message, whatever failed
        return instead("The computation failed; try another image or another attack.")
