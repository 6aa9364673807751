"""A trace drawn again from blocks of itself (a block bootstrap), so that a replay can have several runs.

The trace's time is cut into blocks of equal length, and as many are drawn with replacement and laid one
after the other. Inside a block everything stays as it was: bursts, lengths, turns of a session. A block that
is drawn again is another load that looks the same: its requests and prefixes get names of their own, so that
the copies don't hit each other in the cache. A session (without `parent` or `hash_ids`) ends where its block
ends.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from simsched.errors import InputError
from simsched.streams import stream
from simsched.text.specs import check_parameters, number, parse_spec
from simsched.workload.copies import with_copies
from simsched.workload.sessions import previous_turn
from simsched.workload.trace import Trace


def block_seconds(spec: str) -> float:
    """The length of `block(SECONDS)`.

    Raises:
        InputError: not of this form.
    """
    name, _, inner = spec.strip().partition("(")
    if inner.endswith(")") and "=" not in inner:
        spec = f"{name}(seconds={inner[:-1]})"
    name, given = parse_spec(spec, "--resample")
    if name != "block":
        raise InputError(f"--resample {name}: expected block(SECONDS), such as block(60)")
    check_parameters("--resample", name, given, ("seconds",))
    return number("--resample", name, "seconds", given.get("seconds"), 1e-3, 1e9)


def resample_blocks(trace: Trace, seconds: float, seed: int) -> Trace:
    """A trace of as many blocks of this length as the trace has, drawn with replacement.

    The last block is as long as the others: it ends where the trace's mean rate says that its next request
    would come.

    Raises:
        InputError: the trace has fewer than two such blocks, or turns that wait for answers.
    """
    if trace.think_times is not None:
        raise InputError(
            f"--resample block({seconds:g}): turns of {trace.name} wait for answers; expected a timestamp in "
            "every row"
        )
    times = trace.arrival_time - trace.arrival_time[0]
    span = float(times[-1]) * len(trace) / max(1, len(trace) - 1)
    count = round(span / seconds)
    if count < 2:
        raise InputError(
            f"--resample block({seconds:g}): {trace.name} lasts {span:.3g} s; expected at most half of that, "
            "so that there are blocks to draw from"
        )
    length = span / count
    edges = np.searchsorted(times, np.arange(count + 1) * length)
    drawn = stream(seed, "blocks").integers(0, count, count).tolist()
    rows, arrivals, copies, places = [], [], [], []
    again: Counter[int] = Counter()
    for place, block in enumerate(drawn):
        part = np.arange(edges[block], edges[block + 1])
        rows.append(part)
        arrivals.append(times[part] + (place - block) * length)
        copies.append(np.full(len(part), again[block]))
        places.append(np.full(len(part), place))
        again[block] += 1
    taken, copy = np.concatenate(rows), np.concatenate(copies)
    if not len(taken):
        raise InputError(f"--resample block({seconds:g}): no request in the blocks drawn from {trace.name}")
    drawn_trace = with_copies(trace, taken, copy, np.concatenate(places)).with_columns(
        arrival_time=np.concatenate(arrivals)
    )
    if drawn_trace.history_length is not None:
        # a turn whose parent was not drawn, or not before it, has nothing to go on from
        lost = previous_turn(drawn_trace) < 0
        history = np.where(lost & (drawn_trace.history_length > 0), 0, drawn_trace.history_length)
        drawn_trace = drawn_trace.with_columns(history_length=history)
    return drawn_trace
