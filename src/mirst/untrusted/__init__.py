"""Checks of files of unknown origin, before anything in them is decoded or loaded.

One module for each kind of file; `docs/security.md` lists which threat each of them meets.
"""
