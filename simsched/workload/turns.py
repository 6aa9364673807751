"""Which turns of a file can't be used because of what they follow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simsched.workload.trace import BoolArray, FloatArray, IntArray, Trace


class Fault(NamedTuple):
    """A turn that can't be used."""

    row: int
    column: str | None
    """What is wrong with it; None: nothing, but it follows a turn that can't be used."""
    value: str = ""
    expected: str = ""


class Turns(NamedTuple):
    """What a file says of its turns; n rows."""

    request_id: list[str]
    session_id: list[str | None]
    parent: list[tuple[str, ...]]
    think_time: list[float]
    """Seconds; NaN: not given, so it waits for no answer."""
    history_length: list[float]
    """NaN: not given."""
    prompt: list[float]
    answer: list[float]
    """Both in tokens."""

    def waits(self, row: int) -> bool:
        """Does the turn arrive after an answer?"""
        return not math.isnan(self.think_time[row])

    @staticmethod
    def of(columns: Mapping[str, list[Any]], numbers: Mapping[str, FloatArray]) -> Turns:
        """From raw columns and their numbers; what a row lacks, or has wrong, is empty."""
        n = len(numbers["timestamp"])
        absent = np.full(n, np.nan)
        sessions = columns.get("session_id", [None] * n)
        return Turns(
            [str(each) for each in columns.get("request_id", range(n))],
            [None if each is None else str(each) for each in sessions],
            [parents_of(each) for each in columns.get("parent", [None] * n)],
            numbers.get("think_time", absent).tolist(),
            numbers.get("history_length", absent).tolist(),
            numbers["input_length"].tolist(),
            numbers["output_length"].tolist(),
        )


def parents_of(value: Any) -> tuple[str, ...]:
    """The ids of a raw `parent`: one, a list of them, or None."""
    if value is None:
        return ()
    return tuple(map(str, value)) if type(value) is list else (str(value),)


def check_turns(turns: Turns, good: BoolArray, order: IntArray, recorded: bool) -> tuple[list[Fault], int]:
    """Look through a file's turns, each after those above it.

    A turn follows its parents, or without any its session's previous turn. It can't be used if one of them
    is not above it or can't be used itself.

    Args:
        turns: all rows.
        good: (n,) rows that can be used but for what they follow.
        order: (n,) the rows in the order of the trace, those that are not good among them.
        recorded: a turn with a time of its own, which waits for nobody, may lose those that it follows.

    Returns:
        The turns that can't be used, in that order, and how many others have lost one that they follow.
    """
    faults: list[Fault] = []
    lost = 0
    usable = good.tolist()
    above: dict[str, int] = {}  # request id -> the latest row that has it
    latest: dict[str, int] = {}  # session -> its latest turn
    latest_usable: dict[str, int] = {}
    for row in order.tolist():
        session = turns.session_id[row]
        if usable[row]:
            parents = [(each, above.get(each)) for each in turns.parent[row]]
            before = [at for _, at in parents if at is not None]
            if not parents and session in latest:
                before = [latest[session]]
            if recorded and not turns.waits(row):
                there = [at for at in before if usable[at]]
                incomplete = len(there) < max(len(before), len(parents))
                if not there and session in latest_usable:
                    there = [latest_usable[session]]
                fault = _own_fault(turns, row, there)
                if incomplete and fault is None:
                    lost += 1
            else:
                fault = _parent_fault(turns, row, parents)
                if fault is None and not all(usable[at] for at in before):
                    fault = Fault(row, None)
                if fault is None:
                    fault = _own_fault(turns, row, before)
            if fault is not None:
                faults.append(fault)
                usable[row] = False
        above[turns.request_id[row]] = row
        if session is not None:
            latest[session] = row
            if usable[row]:
                latest_usable[session] = row
    return faults, lost


def _parent_fault(turns: Turns, row: int, parents: list[tuple[str, int | None]]) -> Fault | None:
    """The first parent that can't be one."""
    for each, at in parents:
        if at is None:
            shown = f"{each!r} of request {turns.request_id[row]}"
            return Fault(row, "parent", shown, "the request_id of a row above it")
    return None


def _own_fault(turns: Turns, row: int, before: list[int]) -> Fault | None:
    """What is wrong with a turn itself, given the turns that it follows."""
    if turns.waits(row) and not before:
        what = "a timestamp: it has no parent, and no turn of its session is above it"
        return Fault(row, "think_time", f"{turns.think_time[row]:g}", what)
    known = turns.history_length[row]
    most, what = 0.0, "a request without a parent"
    if before:
        most = min(turns.prompt[row], turns.prompt[before[0]] + turns.answer[before[0]])
        what = "its parent's prompt and answer"
    if known > most:
        shown = f"{known:.0f} of request {turns.request_id[row]}"
        return Fault(row, "history_length", shown, f"at most {most:.0f}, of its prompt and {what}")
    return None


def places_of(time: FloatArray, good: BoolArray, late: BoolArray) -> IntArray:
    """All rows in the order of the trace; one that is dropped stays behind the good row above it."""
    places = np.arange(len(good))
    if not late.any():
        return places
    above = np.maximum.accumulate(np.where(good, places, -1))
    return np.argsort(np.where(above < 0, -np.inf, time[above]), kind="stable")


def without_lost_parents(trace: Trace, path: Path, lost: int) -> Trace:
    """Parents that are not there, or come later, taken out, and said."""
    note = f"{path.name}: {lost:,} of {len(trace):,} requests follow one that is not in the file"
    trace = trace.with_columns(notes=(*trace.notes, note))
    if trace.parent is None:
        return trace
    place = {request: row for row, request in enumerate(trace.request_ids())}
    kept = [
        tuple(each for each in parents if place.get(each, row) < row)
        for row, parents in enumerate(trace.parent)
    ]
    return trace.with_columns(parent=kept)
