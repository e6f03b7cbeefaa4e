"""Kinds of images."""

from typing import Literal

Modality = Literal["ultrasound", "xray", "dermoscopy", "histology", "fundus", "mri", "ct", "general"]
"""What the images are of; histology stands for all stained slides, general for anything else."""
