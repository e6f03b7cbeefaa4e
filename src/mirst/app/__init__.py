"""The explorer: attack an image on a web page and compare predictions. Needs the extra `mirst[app]`."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mirst.app.demo_models import demo_pair
from mirst.app.explore import open_explored_model
from mirst.app.training_images import trainings_of
from mirst.data import Record, read_dataset
from mirst.errors import MirstError

GALLERY = 24
"""Images in the gallery, equally many of each class if possible."""
SESSIONS = 100
"""Visitors whose images are kept in memory. The session that has been idle longest is dropped first."""
STYLE = Path(__file__).with_name("templates") / "explorer.css"

__all__ = ["launch"]


def launch(
    checkpoints: Sequence[Path],
    data: Path | None = None,
    *,
    trusted: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    tell: Callable[[str], object] = print,
) -> None:
    """Serve the explorer until it is interrupted.

    Args:
        checkpoints: one or two checkpoints; none for the demo pair and its phantoms.
        data: images for the gallery.
        trusted: as for `mirst.nn.load_model`.
        port: the first free one from 7860 by default.
        tell: gets messages, the address among them.

    Raises:
        MirstError: Gradio is not installed, a checkpoint or the data cannot be read, or the port is taken.
    """
    try:
        import gradio as gr

        from mirst.app.explorer import Explorer
        from mirst.app.page import build
        from mirst.app.uploads import MAX_BYTES
    except ImportError as error:
        raise MirstError("the explorer needs Gradio; pip install 'mirst[app]'") from error
    if not checkpoints:
        checkpoints, data = demo_pair(tell)
    models = [open_explored_model(path, trusted) for path in checkpoints]
    trainings = trainings_of(checkpoints, data, tell)
    models = [replace(model, training=own) for model, own in zip(models, trainings, strict=True)]
    explorer = Explorer(models, _gallery_records(data, models[0].card.classes))
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    theme.set(body_text_color_subdued="*neutral_600")  # the default is too pale to read
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="mirst-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # for thumbnails and uploads: private, deleted at the end
        page = build(explorer)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                max_file_size=MAX_BYTES,
                state_session_capacity=SESSIONS,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                ssr_mode=False,
                footer_links=[],
                theme=theme,
                css_paths=STYLE,
            )
        except OSError as error:
            raise MirstError(f"cannot serve on {host}:{port or 7860}; give another --port or --host") from error
        tell(f"Explorer: {address} (Ctrl-C ends it)")
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def _gallery_records(data: Path | None, classes: Sequence[str]) -> list[Record]:
    """Images of every class in turn."""
    if data is None:
        return []
    records = read_dataset(data, classes)
    labels = sorted({record.label for record in records})
    of_class = [[record for record in records if record.label == label] for label in labels]
    turns = [group[turn] for turn in range(max(map(len, of_class))) for group in of_class if turn < len(group)]
    return turns[:GALLERY]
