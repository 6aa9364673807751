"""When requests start: new arrivals for those of a trace, one by one or session by session; and how long
sessions go on."""

from __future__ import annotations

import numpy as np

from simsched.errors import InputError
from simsched.workload.arrivals import Arrivals
from simsched.workload.sessions import sessions_of, waits_for
from simsched.workload.trace import FloatArray, Trace


def with_arrivals(trace: Trace, spec: str, request_rate: float | None, seed: int) -> Trace:
    """The trace with the arrivals of this process in place of its own.

    `sessions` and `users(n)` give sessions a new start and leave what is within them: think times, and
    how long after its session's start a row with a time stamp comes. A request without session is one by
    itself.

    Raises:
        InputError: requests that wait for answers, and a process that knows no sessions.
    """
    process = Arrivals.parse(spec)
    if process.by_session:
        return _by_session(trace, process, request_rate, seed)
    if trace.think_times is not None:
        raise InputError(
            f"--arrivals {spec}: turns of {trace.name} wait for answers; expected "
            "sessions, sessions(rate=R) or users(n)"
        )
    return trace.with_columns(
        arrival_time=process.times(len(trace), request_rate, seed),
        closed_loop_users=process.users,
        think_time=process.think_time,
    )


def _by_session(trace: Trace, process: Arrivals, request_rate: float | None, seed: int) -> Trace:
    session = sessions_of(trace)
    thinks = np.full(len(trace), np.nan) if trace.think_times is None else trace.think_times
    own = np.isnan(thinks)  # rows with a time of their own
    count = int(session.max()) + 1
    first = np.full(count, np.inf)
    np.minimum.at(first, session[own], trace.arrival_time[own])
    if process.rated and request_rate is not None:
        request_rate *= count / len(trace)  # a request rate counts turns
    start = process.times(count, request_rate, seed)
    times: FloatArray = trace.arrival_time - first[session] + start[session]
    # a turn that waits keeps its place behind all above it
    latest = np.maximum.accumulate(np.where(own, times, 0.0))
    times = np.where(own, times, latest)
    order = np.argsort(times, kind="stable")
    moved = trace.with_columns(
        request_id=trace.request_ids(),
        arrival_time=times,
        think_times=thinks,
        closed_loop_users=process.users,
        think_time=0.0,
    )
    return moved.take(order)


def last_start(trace: Trace) -> float:
    """When the last request arrives that waits for no answer, in seconds."""
    if trace.think_times is None:
        return float(trace.arrival_time.max())
    return float(trace.arrival_time[np.isnan(trace.think_times)].max())


def thinking_before(trace: Trace) -> FloatArray:
    """(n,) seconds of think times from a session's start to each of its turns, along the longest way; what
    its answers take comes on top."""
    before = np.zeros(len(trace))
    if trace.think_times is None:
        return before
    thinks = np.nan_to_num(trace.think_times).tolist()
    for row, rows in enumerate(waits_for(trace)):
        if rows:
            before[row] = max(before[each] for each in rows) + thinks[row]
    return before
