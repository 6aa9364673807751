"""A results directory: written cell by cell, killed and resumed at will, read by everything else.

    manifest.json       configuration, seed, versions, hashes, and the cells with their options
    cells/CELL/         a finished cell: requests.parquet and summary.json; appears whole or not at all
    steps/CELL.jsonl    its step log, if asked for
    requests.parquet    all cells, merged at the end in the order of the manifest
    summary.csv, .json  a row per cell; confidence intervals over runs in the JSON
    run.log             times of day and durations, which nothing else holds

Everything but run.log is byte-identical for the same configuration, seed and installed versions. Simulated
and real runs share this format.
"""

from simsched.results.layout import LOAD_OPTIONS, RUN_OPTIONS, Options, check_target
from simsched.results.over_runs import over_runs
from simsched.results.reading import Results
from simsched.results.remeasure import parse_window, remeasure
from simsched.results.writing import ResultsWriter, StepLogFile

__all__ = [
    "LOAD_OPTIONS",
    "RUN_OPTIONS",
    "Options",
    "Results",
    "ResultsWriter",
    "StepLogFile",
    "check_target",
    "over_runs",
    "parse_window",
    "remeasure",
]
