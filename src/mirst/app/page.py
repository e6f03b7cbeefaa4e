"""The page itself, in Gradio."""

import threading
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mirst.app.explore import ATTACKS, Subject, View, smallest_eps, view
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


POOLS = ("max-pool", "drop-max")


class Chosen(NamedTuple):
    """What a visitor looks at."""

    image: Image.Image
    name: str
    smallest: list[float | None]
    """For each model."""


class Explorer:
    """What the page's controls call. The models are shared by all visitors, one computation at a time."""

    def __init__(self, subjects: Sequence[Subject], records: Sequence[Record]) -> None:
        self.subjects, self.records = subjects, records
        self._lock = threading.Lock()

    def pick(self, number: int) -> Chosen:
        """An image of the gallery."""
        record = self.records[number]
        return self._chosen(decode(record.file, 3), f"{record.name}, filed as {record.label}")

    def upload(self, sent: str) -> Chosen:
        """A picture that was sent."""
        return self._chosen(take(Path(sent)), "The picture you sent")

    def show(self, chosen: Chosen, attack: str, levels: float, steps: float) -> list[View]:
        """The attack on every model."""
        with self._lock:
            return [view(subject, chosen.image, attack, levels / 255, int(steps)) for subject in self.subjects]

    def _chosen(self, image: Image.Image, name: str) -> Chosen:
        with self._lock:
            return Chosen(image, name, [smallest_eps(subject, image) for subject in self.subjects])


def build(explorer: Explorer) -> Any:
    """The page, a `gradio.Blocks`."""
    with gr.Blocks(title="mirst explorer", analytics_enabled=False, delete_cache=(600, IDLE)) as page:
        gr.Markdown(f"# Why a high F1 is not enough\n{NOTICE}")
        chosen = gr.State(None, time_to_live=IDLE)
        with gr.Row():
            with gr.Column(scale=2, min_width=340):
                gallery = _gallery(explorer)
                sent = gr.File(label="Or send a PNG, JPEG or DICOM file", file_types=list(SUFFIXES))
                attack = gr.Dropdown(list(ATTACKS), value="PGD", label="Attack")
                levels = gr.Slider(0, 16, value=5, step=0.5, label="eps, in gray levels of 255")
                steps = gr.Slider(1, 100, value=20, step=1, label="Steps")
                gr.Markdown(HOW)
            with gr.Column(scale=5, min_width=320):
                heading = gr.Markdown("## Pick a picture")
                with gr.Row():
                    panels = [_Panel(subject) for subject in explorer.subjects]
        outputs = [chosen, heading, *(part for panel in panels for part in panel.parts)]

        def shown(one: Chosen | None, attack: str, levels: float, steps: float) -> list[Any]:
            if one is None:
                return [gr.skip()] * len(outputs)
            views = explorer.show(one, attack, levels, steps)
            filled = [
                part
                for panel, seen, eps in zip(panels, views, one.smallest, strict=True)
                for part in panel.filled(seen, eps)
            ]
            return [one, f"## {_plain(one.name)}", *filled]

        def picked(event: gr.SelectData, attack: str, levels: float, steps: float) -> list[Any]:
            return _said(lambda: shown(explorer.pick(int(event.index)), attack, levels, steps), len(outputs))

        def uploaded(sent: str | None, attack: str, levels: float, steps: float) -> list[Any]:
            if sent is None:
                return [gr.skip()] * len(outputs)
            return _said(lambda: shown(explorer.upload(sent), attack, levels, steps), len(outputs))

        def changed(one: Chosen | None, attack: str, levels: float, steps: float) -> list[Any]:
            return _said(lambda: shown(one, attack, levels, steps), len(outputs))

        settings: list[Any] = [attack, levels, steps]
        quietly: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        if gallery is not None:
            gallery.select(picked, settings, outputs, **quietly)
        sent.upload(uploaded, [sent, *settings], outputs, **quietly).then(lambda: None, None, sent, **quietly)
        gr.on([attack.change, levels.release, steps.release], changed, [chosen, *settings], outputs, **quietly)
    return page


class _Panel:
    """What is shown of one model."""

    def __init__(self, subject: Subject) -> None:
        self.title = subject.title
        with gr.Column(min_width=320):
            self.answer = gr.HTML(f"<h3>{escape(subject.title)}</h3>")
            with gr.Row():
                self.pictures = [self._picture(what) for what in ("Picture", "Change", "Attacked")]
            gr.Markdown("What the first pooling passes on of the attack, as max-pool and as drop-max:")
            with gr.Row():
                self.residuals = [self._picture(pool) for pool in POOLS]
        self.parts = [self.answer, *self.pictures, *self.residuals]

    def _picture(self, what: str) -> gr.Image:
        return gr.Image(
            label=what,
            alt_text=f"{self.title}: {what}",
            format="png",
            interactive=False,
            buttons=["download", "fullscreen"],
            min_width=100,
            height=220,
        )

    def filled(self, seen: View, smallest: float | None) -> list[Any]:
        residuals = [seen.residuals.get(pool) for pool in POOLS]
        return [_answer(seen, smallest), seen.clean, seen.perturbation, seen.attacked, *residuals]


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


def _answer(seen: View, smallest: float | None) -> str:
    """The model's answers in words, and its probabilities as bars."""
    environment = Environment(loader=PackageLoader("mirst.app"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("answer.html.j2").render(seen=seen, smallest=smallest)


def _plain(text: str) -> str:
    """A name without meaning to Markdown."""
    return "".join(f"&#{ord(letter)};" if letter in "\\`*_{}[]<>()#+!|~&$" else letter for letter in text)


def _said(work: Callable[[], list[Any]], outputs: int) -> list[Any]:
    """What `work` returns; where it fails, a sentence on the page, which stays as it was."""
    try:
        return work()
    except MirstError as error:
        gr.Warning(escape(str(error)))
    except Exception:  # noqa: BLE001 - a visitor gets a sentence, whatever failed
        gr.Warning("That did not work; try another picture or another attack.")
    return [gr.skip()] * outputs
