"""The explorer: an image, an attack, and what becomes of a model's answer. Needs the extra `mirst[app]`."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mirst.app.demo_pair import demo_pair
from mirst.app.explore import open_subject
from mirst.data import Record, read_dataset
from mirst.errors import MirstError

GALLERY = 24
"""Images shown to pick from, of every class alike."""

__all__ = ["demo_pair", "launch"]


def launch(
    checkpoints: Sequence[Path],
    data: Path | None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    tell: Callable[[str], object] = print,
) -> None:
    """Serve the explorer until it is interrupted.

    Args:
        checkpoints: one or two of ours.
        data: images to pick from.
        port: the first free one from 7860 by default.
        tell: gets the address.

    Raises:
        MirstError: Gradio is not installed, a checkpoint or the data cannot be read, or the port is taken.
    """
    try:
        import gradio as gr

        from mirst.app.page import Explorer, build
        from mirst.app.uploads import MAX_BYTES
    except ImportError as error:
        raise MirstError("the explorer needs Gradio; pip install 'mirst[app]'") from error
    subjects = [open_subject(path) for path in checkpoints]
    page = build(Explorer(subjects, _to_pick(data, subjects[0].card.classes)))
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    theme.set(body_text_color_subdued="*neutral_600")  # the default is too pale to read
    try:
        _, address, _ = page.queue(default_concurrency_limit=4).launch(
            server_name=host,
            server_port=port,
            max_file_size=MAX_BYTES,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            theme=theme,
        )
    except OSError as error:
        raise MirstError(f"cannot serve on {host}:{port or 7860}; name another --port or --host") from error
    tell(f"Explorer: {address} (Ctrl-C ends it)")
    page.block_thread()


def _to_pick(data: Path | None, classes: Sequence[str]) -> list[Record]:
    """Images of every class in turn."""
    if data is None:
        return []
    records = read_dataset(data, classes)
    of_class = [[one for one in records if one.label == label] for label in sorted({one.label for one in records})]
    turns = [group[turn] for turn in range(max(map(len, of_class))) for group in of_class if turn < len(group)]
    return turns[:GALLERY]
