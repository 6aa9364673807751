"""Replicas behind a router that looks at no replica: the trace is dealt out beforehand.

Who gets which request depends on nothing that happens, so that each replica is alone with its share: it knows
when its next request arrives, and leaps as far as that allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from simsched.engine.source import OpenLoop, Source
from simsched.routers.base import Replicas, Router
from simsched.workload.content import shares
from simsched.workload.trace import IntArray, Trace


def deal_out(
    trace: Trace, source: Source, router: Router, num_replicas: int, seed: int
) -> list[IntArray] | None:
    """By replica, the rows of its requests.

    Args:
        source: of the trace, from its beginning; used up if rows are returned.
        seed: of the router's chance.

    Returns:
        None where the router must see what happens, answers bring requests, or prompts share prefixes (their
        names are the whole trace's).
    """
    if router.looks_at_replicas or not isinstance(source, OpenLoop) or shares(trace):
        return None
    router.start(num_replicas, seed)
    view = Replicas.idle(num_replicas)
    rows: list[list[int]] = [[] for _ in range(num_replicas)]
    while (now := source.next_time) < inf:
        arrival = source.pop()
        rows[router.choose(arrival, view, now)].append(arrival.row)
    return [np.array(each, dtype=np.int64) for each in rows]


def share_of(trace: Trace, rows: IntArray, random_ids: Sequence[int] | None) -> OpenLoop:
    """The requests of one replica, as its source."""
    own_ids = None if random_ids is None else [random_ids[row] for row in rows.tolist()]
    return OpenLoop(trace.take(rows), own_ids)
