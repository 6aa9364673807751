"""Loads, options, ratios and intervals in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from simsched.compare.arms import Load
from simsched.compare.statistics import Ratio
from simsched.text.columns import full_column
from simsched.text.table import number

_MOST_LISTED = 4


def load_text(load: Load) -> str:
    """A load in words: `"8 req/s, workload lmsys"`; empty where nothing varies."""
    return ", ".join(
        rate_text(value) if name == "request_rate" else f"{name.replace('_', ' ')} {option_text(value)}"
        for name, value in load.items()
    )


def listed(names: Sequence[str]) -> str:
    """`"a, b and c"`; of many the first ones, and how many more."""
    if len(names) > _MOST_LISTED + 1:
        names = [*names[:_MOST_LISTED], f"{len(names) - _MOST_LISTED} more"]
    comma = "; " if any(", " in name for name in names) else ", "
    return names[0] if len(names) == 1 else f"{comma.join(names[:-1])} and {names[-1]}"


def rate_text(rate: float | None) -> str:
    """A request rate in words."""
    if rate is None:
        return "arrivals as given"
    return "all at once" if math.isinf(rate) else f"{rate:g} req/s"


def option_text(value: Any) -> str:
    """A swept option's value: a dash where it was not given, no trailing zeros."""
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def steady_text(steady: bool | None, growth: float | None, growth_low: float | None) -> str:
    """Whether a backlog has stopped growing: `"yes"`, `"no, +3.2/s"`, `"unclear"` (too short to tell); a dash
    where nothing can tell."""
    if steady is None or growth is None:
        return "–"
    if steady:
        return "yes"
    return f"no, +{number(growth, 2)}/s" if (growth_low or 0.0) > 0 else "unclear"


def ratio_text(value: float | None) -> str:
    """A ratio: three decimals near 1, else three digits."""
    return f"{value:.3f}" if value is not None and 0.1 <= value < 10 else number(value)


def interval_text(ratio: Ratio) -> str:
    """`"0.910 to 0.940"`; empty with one run."""
    return "" if ratio.low is None else f"{ratio_text(ratio.low)} to {ratio_text(ratio.high)}"


def value_text(metric: str, value: float | None) -> str:
    """A metric's value with its unit: `"1.5 s"`."""
    label, (shown,) = full_column(metric, [value])
    unit = label.partition(" (")[2].rstrip(")")
    return f"{number(shown)} {unit}".strip()


def times_text(ratio: Ratio) -> str:
    """`"2.5 times lower [2.4, 2.6] than"`: a ratio or its inverse, whichever is above 1."""
    values = [ratio.ratio, ratio.low, ratio.high]
    higher = ratio.ratio >= 1
    if not higher:
        values = [value and 1 / value for value in (ratio.ratio, ratio.high, ratio.low)]
    interval = "" if ratio.low is None else f" [{number(values[1])}, {number(values[2])}]"
    return f"{number(values[0])} times {'higher' if higher else 'lower'}{interval} than"
