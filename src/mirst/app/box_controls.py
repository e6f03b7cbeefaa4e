"""The controls of the page that give the box of the lesion: drawn on the image, or entered as four numbers."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined

from mirst.app.explorer import Selection
from mirst.report.figures import image_uri

SIDE = 640
"""The image is sent at no more than this many pixels a side."""
DRAWING = Path(__file__).with_name("templates") / "box.js"
EDGES = ("Left", "Top", "Right", "Bottom")


class BoxControls(NamedTuple):
    """Controls on the page."""

    picture: gr.HTML
    """The image with its box. An `input` event has the `edges` of the box that was drawn."""
    entered: gr.Group
    """The four numbers and their button, which are hidden without an image."""
    edges: list[gr.Number]
    given: gr.Button

    @classmethod
    def place(cls) -> "BoxControls":
        """Add them to the page that is being built."""
        picture = gr.HTML("", js_on_load=DRAWING.read_text(encoding="utf-8"), elem_id="boxed")
        with gr.Group(visible=False) as entered:
            with gr.Row():
                edges = [gr.Number(label=name, minimum=0, min_width=120) for name in EDGES]
            given = gr.Button("Use these edges as the box", size="sm")
        return cls(picture, entered, edges, given)

    @property
    def outputs(self) -> list[Any]:
        return [self.picture, self.entered, *self.edges]


def shown_box(selection: Selection) -> list[Any]:
    """The values of `BoxControls.outputs`."""
    edges = [None] * 4 if selection.box is None else [round(edge, 1) for edge in selection.box[:4]]
    return [picture_with_box(selection), gr.Group(visible=True), *edges]


def no_box() -> list[Any]:
    """The values of `BoxControls.outputs` without an image."""
    return ["", gr.Group(visible=False), *[None] * 4]


def picture_with_box(selection: Selection) -> str:
    """The image with its box, and where the box comes from, as HTML."""
    small = selection.image.copy()
    small.thumbnail((SIDE, SIDE))
    environment = Environment(loader=PackageLoader("mirst.app"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("box.html.j2").render(selection=selection, picture=image_uri(small))
