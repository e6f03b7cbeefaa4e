"""Checks of files of unknown origin, before anything in them is decoded or loaded."""
