"""Metrics of sessions: how long until the first answer and until the last one, and against an idle engine.

- first answer = end of the answer to the turn that arrives first − its arrival;
- session completion = end of the session's last answer − that arrival, with the think times between;
- session slowdown = completion / what it would be were the session alone on an idle engine with the same
  profile and caching (`simsched.alone.session_alone_time`).

A session counts where its first turn arrives in the window. `unfinished_sessions` have a turn without an
answer, and the times leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simsched.workload.trace import FloatArray, IntArray

_STATISTICS = ("mean", "median", "p90", "p99")
SESSION_METRICS = (
    "num_sessions",
    "unfinished_sessions",
    *(f"{each}_{name}_ms" for name in ("first_answer", "session_completion") for each in _STATISTICS),
    *(f"{each}_session_slowdown" for each in _STATISTICS),
)
"""Columns of summary.csv where requests have sessions, behind all others."""


def session_numbers(session_id: Sequence[str | None] | None) -> IntArray | None:
    """(n,) a number for each `session_id`, in the order of their first rows; -1 for a request of none; None
    where no request has a session."""
    if session_id is None:
        return None
    known: dict[str, int] = {}
    found = [-1 if each is None else known.setdefault(each, len(known)) for each in session_id]
    return np.array(found, dtype=np.int64) if known else None


def session_values(
    session: IntArray,
    arrival: FloatArray,
    finish: FloatArray,
    alone: FloatArray | None,
    window: tuple[float, float],
) -> dict[str, float]:
    """`SESSION_METRICS` -> value; NaN where undefined.

    Args:
        session: (n,) the number of each request's session, -1 for none.
        arrival: (n,) seconds; NaN: it never came.
        finish: (n,) seconds; NaN: never.
        alone: (n,) seconds that the session takes alone; None: not known.
        window: the first turn arrives from when to when, in seconds.
    """
    values = dict.fromkeys(SESSION_METRICS, math.nan) | {"num_sessions": 0, "unfinished_sessions": 0}
    rows = np.flatnonzero(session >= 0)
    # session by session, each in order of arrival; what never came is last
    rows = rows[np.lexsort((arrival[rows], session[rows]))]
    if not len(rows):
        return values
    numbers = session[rows]
    begins = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]])
    start = arrival[rows][begins]
    first_answer = finish[rows][begins] - start
    completion = np.maximum.reduceat(finish[rows], begins) - start  # NaN if one is missing
    slowdown = np.full(len(begins), math.nan) if alone is None else completion / alone[rows][begins]
    inside = (start >= window[0]) & ~(start > window[1])
    values["num_sessions"] = int(inside.sum())
    values["unfinished_sessions"] = int((inside & np.isnan(completion)).sum())
    for name, seconds, scale in (
        ("first_answer_ms", first_answer, 1e3),
        ("session_completion_ms", completion, 1e3),
        ("session_slowdown", slowdown, 1.0),
    ):
        known = seconds[inside & np.isfinite(seconds)] * scale
        if len(known):
            values[f"mean_{name}"] = float(known.mean())
            for statistic, percent in (("median", 50), ("p90", 90), ("p99", 99)):
                values[f"{statistic}_{name}"] = float(np.percentile(known, percent))
    return values
