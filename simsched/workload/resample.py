"""A workload drawn from the requests of a trace."""

from __future__ import annotations

import numpy as np

from simsched.errors import InputError
from simsched.streams import stream
from simsched.workload.arrivals import Arrivals
from simsched.workload.trace import Trace


def resample(
    trace: Trace,
    num_requests: int,
    request_rate: float | None = None,
    *,
    arrivals: str = "poisson",
    seed: int = 0,
) -> Trace:
    """Requests drawn from the trace with replacement, whole (prompt, output, columns), with new arrivals.

    Raises:
        InputError: a number or process out of its bounds.
    """
    if num_requests < 1:
        raise InputError(f"--num-requests {num_requests}: expected at least 1")
    process = Arrivals.parse(arrivals)
    rows = stream(seed, "prompts").integers(0, len(trace), num_requests)
    return trace.take(np.asarray(rows)).with_columns(
        arrival_time=process.times(num_requests, request_rate, seed),
        request_id=None,
        # a turn drawn without the turns before it begins a conversation
        session_id=None,
        parent=None,
        history_length=None,
        think_times=None,
        closed_loop_users=process.users,
        think_time=process.think_time,
    )
