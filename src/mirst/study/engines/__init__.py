"""Where the trials of a study run. `ENGINES` names the engines for the command line."""

from collections.abc import Callable

from mirst.study.engines.base import Engine, Events, Kill, Work
from mirst.study.engines.local import Local
from mirst.study.engines.ray import Ray

ENGINES: dict[str, Callable[..., Engine]] = {"local": Local, "ray": Ray}
"""Where trials run, by the name on the command line."""

__all__ = ["ENGINES", "Engine", "Events", "Kill", "Local", "Ray", "Work"]
