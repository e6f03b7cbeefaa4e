"""Defenses x folds x seeds, from one YAML file to one results folder."""

from mirst.study.engine import run_study
from mirst.study.results import Results, read_results
from mirst.study.spec import StudySpec, load_spec

__all__ = ["Results", "StudySpec", "load_spec", "read_results", "run_study"]
