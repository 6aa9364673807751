"""Comparing policies: in one results directory (`compare`), or between two (`compare_directories`)."""

from simsched.compare.comparison import Comparison, Row, compare
from simsched.compare.directories import DirectoryComparison, PairRow, compare_directories
from simsched.compare.samples import DEFAULT_METRICS, PRIMARY, Load, Samples, find_policy, samples_of
from simsched.compare.verdict import verdict

__all__ = [
    "DEFAULT_METRICS",
    "PRIMARY",
    "Comparison",
    "DirectoryComparison",
    "Load",
    "PairRow",
    "Row",
    "Samples",
    "compare",
    "compare_directories",
    "find_policy",
    "samples_of",
    "verdict",
]
