"""New arrivals for the requests of a trace: one by one, or session by session."""

from __future__ import annotations

import numpy as np

from simsched.errors import InputError
from simsched.workload.arrivals import Arrivals
from simsched.workload.sessions import sessions_of
from simsched.workload.trace import FloatArray, Trace


def with_arrivals(trace: Trace, spec: str, request_rate: float | None, seed: int) -> Trace:
    """The trace with the arrivals of this process in place of its own.

    `sessions(rate)` and `users(n)` give sessions a new start and leave what is within them: think times, and
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
            "sessions(rate=R) or users(n)"
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
