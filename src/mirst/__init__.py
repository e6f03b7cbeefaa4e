"""Robust classifiers for small medical image sets."""

from importlib.metadata import version

__version__ = version("mirst")
