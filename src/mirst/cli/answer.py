"""What a command prints: lines for people, or with `--json` one object for programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

AsJsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object to standard output, everything else to standard error.")
]


class Answer:
    """Collects the entries of the object while lines are printed.

    Args:
        as_json: print the object at the end, and lines to standard error.
        entries: of the object, from the command line.
    """

    def __init__(self, as_json: bool, **entries: Any) -> None:
        self.as_json = as_json
        self._entries = entries

    def say(self, line: str) -> None:
        typer.echo(line, err=self.as_json)

    def add(self, **entries: Any) -> None:
        """Tables become lists of objects, one for each row; paths become texts."""
        self._entries |= {key: _plain(value) for key, value in entries.items()}

    def warn(self, sentences: list[str]) -> None:
        for sentence in sentences:
            self.say(f"WARNING: {sentence}")
        self._entries["warnings"] = [*self._entries.get("warnings", []), *sentences]

    def end(self) -> None:
        if self.as_json:
            from mirst.display import as_json

            typer.echo(as_json(self._entries))


def _plain(value: "pd.DataFrame | Path | dict[str, Any] | Any") -> Any:
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return str(value) if isinstance(value, Path) else value
