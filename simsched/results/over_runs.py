"""Means over runs, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from simsched.balance import BALANCE_METRICS
from simsched.metrics import GROWTH, METRICS
from simsched.rank_metrics import RANK_METRICS
from simsched.results.layout import RUN_OPTIONS
from simsched.session_metrics import SESSION_METRICS


def over_runs(rows: Sequence[Mapping[str, Any]], options: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and 95 % t-interval over runs of every metric, per setting (the options without run and seed).

    Each metric becomes `{"mean", "ci95": [low, high], "n"}`; the interval is null with fewer than two runs.
    `steady` is true if all runs are, null where none can tell.
    """
    import numpy as np

    settings = [name for name in options if name not in RUN_OPTIONS]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in settings), []).append(row)
    summaries = []
    for key, group in groups.items():
        summary: dict[str, Any] = dict(zip(settings, key, strict=True))
        some = (*BALANCE_METRICS, *RANK_METRICS, *SESSION_METRICS)
        of_some = [name for name in some if any(name in row for row in group)]
        for metric in (*METRICS, *GROWTH, *of_some):
            values = np.array([row[metric] for row in group if row.get(metric) is not None], dtype=float)
            n = len(values)
            interval = None
            if n > 1:
                from scipy.special import stdtrit

                half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
                interval = [float(values.mean()) - half, float(values.mean()) + half]
            summary[metric] = {"mean": float(values.mean()) if n else None, "ci95": interval, "n": n}
        verdicts = [row["steady"] for row in group if row.get("steady") is not None]
        summary["steady"] = all(verdicts) if verdicts else None
        summaries.append(summary)
    return summaries
