"""Faster ways to compute the same outputs and gradients."""
