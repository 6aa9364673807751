"""Which earlier turn a prompt goes on from, how much of it it holds, and whose answers a turn waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from simsched.workload.trace import BoolArray, FloatArray, IntArray, Trace


def turn_numbers(session_id: Sequence[str | None]) -> list[int | None]:
    """For each request its number in its session, from 0, in the order of the trace; None: it is of none."""
    seen: Counter[str] = Counter()
    turns: list[int | None] = []
    for session in session_id:
        turns.append(None if session is None else seen[session])
        if session is not None:
            seen[session] += 1
    return turns


def previous_turn(trace: Trace) -> IntArray:
    """For each request the row of the turn that it goes on from; -1: it begins a conversation.

    That is its first parent where it has one, else the latest request before it of the same session.
    """
    found = np.full(len(trace), -1, dtype=np.int64)
    if trace.session_id is not None:
        latest: dict[str, int] = {}
        for row, session in enumerate(trace.session_id):
            if session is not None:
                found[row] = latest.get(session, -1)
                latest[session] = row
    if trace.parent is not None:
        place = {request: row for row, request in enumerate(trace.request_ids())}
        for row, parents in enumerate(trace.parent):
            if parents:
                at = place.get(parents[0], -1)
                found[row] = at if at < row else -1
    return found


def waits_for(trace: Trace) -> list[tuple[int, ...]]:
    """For each request the rows of the turns whose answers it waits for; empty: it waits for none.

    A row with a think time waits for all its parents, or without any for the turn before it in its session.
    -1 stands for one that is not there.
    """
    if trace.think_times is None:
        return [()] * len(trace)
    waits = ~np.isnan(trace.think_times)
    place = {request: row for row, request in enumerate(trace.request_ids())}
    before = previous_turn(trace).tolist()
    found: list[tuple[int, ...]] = []
    for row, turn in enumerate(before):
        rows: tuple[int, ...] = ()
        if waits[row]:
            parents = () if trace.parent is None else trace.parent[row]
            rows = tuple({place.get(each, -1): None for each in parents} or {turn: None})
        found.append(rows)
    return found


def sessions_of(trace: Trace) -> IntArray:
    """(n,) the number of each request's session, in the order of their first rows: one `session_id`, and all
    that wait for each other's answers."""
    number = np.zeros(len(trace), dtype=np.int64)
    joined: list[int] = []  # session -> one that it is a part of, or itself
    of_id: dict[str, int] = {}

    def whole(session: int) -> int:
        while joined[session] != session:
            joined[session] = session = joined[joined[session]]
        return session

    for row, rows in enumerate(waits_for(trace)):
        parts = {whole(int(number[each])) for each in rows}
        named = None if trace.session_id is None else trace.session_id[row]
        if named is not None and named in of_id:
            parts.add(whole(of_id[named]))
        session = min(parts, default=len(joined))
        if not parts:
            joined.append(session)
        for part in parts:
            joined[part] = session
        if named is not None:
            of_id[named] = session
        number[row] = session
    roots = np.array([whole(session) for session in range(len(joined))], dtype=np.int64)
    _, dense = np.unique(roots[number], return_inverse=True)
    return dense.astype(np.int64)


def stranded(trace: Trace, kept: BoolArray | None = None) -> BoolArray:
    """(n,) turns that wait for an answer which never comes: of a turn that is not there, or not `kept`, or is
    stranded itself."""
    lost = np.zeros(len(trace), dtype=np.bool_)
    if trace.think_times is None:
        return lost
    gone = [False] * len(trace) if kept is None else (~kept).tolist()
    for row, rows in enumerate(waits_for(trace)):
        if any(not 0 <= each < row or gone[each] for each in rows):
            lost[row] = gone[row] = True
    return lost


def as_arrived(trace: Trace, arrival_time: FloatArray) -> Trace:
    """The trace in order of arrival, each turn at the time at which it came, so that none waits.

    Args:
        trace: n requests.
        arrival_time: (n,) seconds at which they arrived in a run.
    """
    stamped = trace.with_columns(
        request_id=trace.request_ids(),
        arrival_time=arrival_time,
        think_times=None,
        closed_loop_users=None,
    )
    return stamped.take(np.argsort(arrival_time, kind="stable"))


def history(trace: Trace) -> tuple[IntArray, IntArray]:
    """For each request the turn that it goes on from (its row, -1: none), and with how many of its tokens.

    These are the first tokens of that turn's prompt and answer, and the first of this prompt: all of them
    where `history_length` does not say less, none where the prompt is too short to hold them.
    """
    before = previous_turn(trace)
    total = trace.num_prompt_tokens + trace.num_output_tokens
    tokens = np.where(before >= 0, total[before], 0)
    tokens = np.where(trace.num_prompt_tokens >= tokens, tokens, 0)
    if trace.history_length is not None:
        given = (trace.history_length >= 0) & (before >= 0)
        tokens = np.where(given, trace.history_length, tokens)
    return before, tokens
