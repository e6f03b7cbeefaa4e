"""The page of commands, from the commands themselves."""

from typing import Any

PAGE = "reference/command-line.md"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    return markdown + commands() if page.file.src_uri == PAGE else markdown


def commands() -> str:
    """Every command with its arguments and options, as typer documents them, without the list that precedes them."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from mirst.cli.commands import app

    command = get_command(app)
    with command.make_context("mirst", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="mirst")
    return text[text.index("\n## ") :]
