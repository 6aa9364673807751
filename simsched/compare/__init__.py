"""Comparing arms, which are policies and engine options: of one directory, or of two."""

import sys
from types import ModuleType
from typing import Any

from simsched.compare.arms import Arm, Load, find_arm
from simsched.compare.compared import Row
from simsched.compare.comparison import Comparison, compare
from simsched.compare.directories import DirectoryComparison, PairRow, compare_directories
from simsched.compare.samples import DEFAULT_METRICS, PRIMARY, Samples, samples_of
from simsched.compare.verdict import verdict

__all__ = [
    "DEFAULT_METRICS",
    "PRIMARY",
    "Arm",
    "Comparison",
    "DirectoryComparison",
    "Load",
    "PairRow",
    "Row",
    "Samples",
    "compare",
    "compare_directories",
    "find_arm",
    "samples_of",
    "verdict",
]


class _Callable(ModuleType):
    """So that `simsched.compare(results)` is `simsched.compare.compare(results)`."""

    def __call__(self, *arguments: Any, **options: Any) -> Comparison:
        return compare(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
