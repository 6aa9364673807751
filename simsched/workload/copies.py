"""Copies of a trace's requests: other requests that look the same, with names of their own."""

from __future__ import annotations

import numpy as np

from simsched.workload.trace import IntArray, Trace


def repeated(trace: Trace, times: int) -> Trace:
    """The trace so many times, one after the other; a copy begins when the trace's mean rate says that its
    next request would come (a second after a lone request)."""
    n = len(trace)
    start = float(trace.arrival_time[0])
    span = float(trace.arrival_time[-1]) - start
    period = span * n / (n - 1) if n > 1 else 1.0
    rows, copy = np.tile(np.arange(n), times), np.repeat(np.arange(times), n)
    return with_copies(trace, rows, copy, copy).with_columns(
        arrival_time=trace.arrival_time[rows] + copy * period
    )


def with_copies(trace: Trace, rows: IntArray, copy: IntArray, of_session: IntArray) -> Trace:
    """These requests, some of them more than once. Copies don't hit each other in the cache, and follow turns
    of their own copy only.

    Args:
        trace: the requests.
        rows: (n,) those that are taken, in order of arrival.
        copy: (n,) which copy of the request each is; 0: itself.
        of_session: (n,) which copy of its session each belongs to.
    """
    names = trace.request_ids()
    numbers = list(zip(rows.tolist(), copy.tolist(), strict=True))

    def renamed(name: str | None, at: int) -> str | None:
        return name if name is None or not at else f"{name}#{at}"

    columns: dict[str, object] = {"request_id": [renamed(names[row], at) for row, at in numbers]}
    if trace.session_id is not None:
        columns["session_id"] = [
            renamed(trace.session_id[row], at)
            for row, at in zip(rows.tolist(), of_session.tolist(), strict=True)
        ]
    if trace.parent is not None:
        columns["parent"] = [
            tuple(f"{parent}#{at}" if at else parent for parent in trace.parent[row]) for row, at in numbers
        ]
    if trace.hash_ids is not None:
        # a copy's prefixes are its own
        largest = max((max(ids, default=0) for ids in trace.hash_ids), default=0)
        columns["hash_ids"] = [
            tuple(each + at * (largest + 1) for each in trace.hash_ids[row]) for row, at in numbers
        ]
    return trace.take(rows).with_columns(**columns)
