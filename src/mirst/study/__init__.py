"""Defenses x folds x seeds, from one YAML file to one results folder."""

from mirst.study.demo import demo_lesion_spec, demo_spec
from mirst.study.engines import ENGINES, Engine, Local, Ray
from mirst.study.ensemble import ensemble_study
from mirst.study.estimate import ColumnEstimate, Estimate, estimate_study
from mirst.study.external_results import External, read_externals
from mirst.study.linear_probe import probe
from mirst.study.load import load_source, load_spec, overridden, parse_attacks, parse_defense, parse_eps
from mirst.study.lock import locked
from mirst.study.post_hoc.boxes import misplace_boxes
from mirst.study.post_hoc.certificates import certify_study
from mirst.study.post_hoc.corruptions import corrupt_study
from mirst.study.post_hoc.distances import measure_distances
from mirst.study.post_hoc.suites import attack_study
from mirst.study.post_hoc.validation import validate_study
from mirst.study.post_hoc.validation_works import ExternalSuite
from mirst.study.post_hoc.witnesses import search_witnesses
from mirst.study.pretraining import Method, pretrain
from mirst.study.results import Results, read_results
from mirst.study.run import Plan, Step, run_study
from mirst.study.shipped import SHIPPED, shipped_studies
from mirst.study.spec import StudySpec
from mirst.study.spec_sections import SourceSpec
from mirst.study.status import Status, TrialStatus, study_status
from mirst.study.train_one import train

__all__ = [
    "ENGINES",
    "SHIPPED",
    "ColumnEstimate",
    "Engine",
    "Estimate",
    "External",
    "ExternalSuite",
    "Local",
    "Method",
    "Plan",
    "Ray",
    "Results",
    "SourceSpec",
    "Status",
    "Step",
    "StudySpec",
    "TrialStatus",
    "attack_study",
    "certify_study",
    "corrupt_study",
    "demo_lesion_spec",
    "demo_spec",
    "ensemble_study",
    "estimate_study",
    "load_source",
    "load_spec",
    "locked",
    "measure_distances",
    "misplace_boxes",
    "overridden",
    "parse_attacks",
    "parse_defense",
    "parse_eps",
    "pretrain",
    "probe",
    "read_externals",
    "read_results",
    "run_study",
    "search_witnesses",
    "shipped_studies",
    "study_status",
    "train",
    "validate_study",
]
