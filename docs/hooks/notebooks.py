"""The notebooks of the site: their cells run when it is built, and what they show stands below them.

A notebook is a Markdown file that jupytext reads, so it also is a page of the site and of the repository. Tests run its
cells with `run_cells` too.
"""

import ast
import base64
import contextlib
import io
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CELL = re.compile(r"^```(python|bash)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
runs = True


def run_cells(text: str, shell: Callable[[str], str]) -> Iterator[tuple[re.Match[str], str, list[bytes]]]:
    """Each cell of the notebook `text`, what it prints, and its figures as PNG; `shell` runs a bash cell."""
    import matplotlib

    names: dict[str, Any] = {"__name__": "__main__"}
    with matplotlib.rc_context({"figure.dpi": 110}):
        for cell in CELL.finditer(text):
            printed = shell(cell[2]) if cell[1] == "bash" else _run_python(cell[2], names)
            yield cell, printed, list(_figures())


def _run_python(code: str, names: dict[str, Any]) -> str:
    """Run the code as a cell: the value of an expression at its end is printed, unless a semicolon follows."""
    body = ast.parse(code).body
    shows = isinstance(body[-1], ast.Expr) and not code.rstrip().endswith(";")
    last = ast.Expression(body.pop().value) if shows else None  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        value = eval(compile(last, "<cell>", "eval"), names) if last else None
        if value is not None:
            print(repr(value))
    return printed.getvalue()


def _figures() -> Iterator[bytes]:
    import matplotlib.pyplot as plt

    for number in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(number).savefig(picture, format="png")
        yield picture.getvalue()
    plt.close("all")


def with_outputs(text: str) -> str:
    """The notebook with the outputs of its cells, which run in a folder of their own."""
    parts, end = [], 0
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for cell, printed, figures in run_cells(text, _in_bash):
            parts += [text[end : cell.end()], _shown(printed, figures)]
            end = cell.end()
    return "".join(parts) + text[end:]


def _in_bash(code: str) -> str:
    environment = os.environ | {"NO_COLOR": "1"}
    return subprocess.run(["bash", "-ec", code], stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout


def _shown(printed: str, figures: list[bytes]) -> str:
    text = f"\n``` {{.text .output}}\n{printed.rstrip()}\n```\n" if printed.strip() else ""
    for figure in figures:
        data = base64.b64encode(figure).decode()
        text += f'\n<img alt="The figure that this cell draws" src="data:image/png;base64,{data}">\n'
    return text


def on_startup(*, command: str, **_: Any) -> None:
    global runs
    runs = command != "serve"  # which builds again after every change


def on_files(files: Any, *, config: Any) -> Any:
    """Every notebook can be downloaded for Jupyter."""
    import jupytext
    from mkdocs.structure.files import File

    for page in [file for file in files if file.src_uri.startswith("notebooks/")]:
        notebook = jupytext.writes(jupytext.reads(page.content_string, fmt="md"), fmt="ipynb")
        files.append(File.generated(config, Path(page.src_uri).with_suffix(".ipynb").as_posix(), content=notebook))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if not page.file.src_uri.startswith("notebooks/"):
        return markdown
    title, _, body = markdown.partition("\n\n")
    download = f"[Download as a notebook]({Path(page.file.src_uri).stem}.ipynb)"
    return "\n\n".join([title, download, with_outputs(body) if runs else body])
