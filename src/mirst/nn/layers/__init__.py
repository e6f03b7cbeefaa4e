"""Layers of the paper."""
