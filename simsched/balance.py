"""How evenly a router spreads requests over replicas.

- `replica_load_cv`: coefficient of variation (standard deviation over mean), over replicas, of the mean
  number of requests in flight in the window;
- `replica_tokens_cv`: the same of the tokens, prompt and answer, of the requests that arrive in it.

0 is perfect balance; with N replicas, sqrt(N - 1) is all on one. Replicas are counted up to the last one that
served any request.
"""

from __future__ import annotations

import math

import numpy as np

from simsched.workload.trace import FloatArray, IntArray

BALANCE_METRICS = ("replica_load_cv", "replica_tokens_cv")
"""Columns of summary.csv where requests were served by several replicas, behind all others."""


def balance_values(
    replica: IntArray, arrival: FloatArray, finish: FloatArray, tokens: IntArray, window: tuple[float, float]
) -> dict[str, float]:
    """`BALANCE_METRICS` -> value; NaN where undefined.

    Args:
        replica: (n,) the number of the replica that served each request, -1 for none.
        arrival: (n,) seconds; NaN: it never came.
        finish: (n,) seconds; NaN: never.
        tokens: (n,) of prompt and answer.
        window: its start and end, in seconds.
    """
    served = (replica >= 0) & np.isfinite(arrival)
    if not served.any():
        return dict.fromkeys(BALANCE_METRICS, math.nan)
    start, end = window
    who, count = replica[served], int(replica.max()) + 1
    came = arrival[served]
    left = np.where(np.isfinite(finish[served]), finish[served], np.inf)
    in_flight = np.clip(np.minimum(left, end) - np.maximum(came, start), 0.0, None)
    inside = (came >= start) & (came <= end)
    return {
        "replica_load_cv": _variation(np.bincount(who, in_flight, count)),
        "replica_tokens_cv": _variation(np.bincount(who, tokens[served] * inside, count)),
    }


def _variation(loads: FloatArray | IntArray) -> float:
    mean = float(loads.mean())
    return float(loads.std()) / mean if mean > 0 else math.nan
