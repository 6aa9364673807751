"""A study, its grid of cells, and how they are run: study -> plan -> cells -> results directory."""

from simsched.sweep.execute import run_study
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.study import Study, make_study, read_study

__all__ = ["Plan", "Study", "make_plan", "make_study", "read_study", "run_study"]
