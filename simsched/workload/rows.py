"""From raw rows to a checked `Trace`: every format's reader ends here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simsched.errors import InputError
from simsched.text.table import counted
from simsched.workload.table import place
from simsched.workload.trace import SLOS, BoolArray, FloatArray, IntArray, Trace
from simsched.workload.turns import Fault, Turns, check_turns, parents_of, places_of, without_lost_parents
from simsched.workload.units import guess_hash_block_size

_EXACT = 2.0**53  # whole numbers above this are not exact as floats


class _Number(NamedTuple):
    """What a numeric column may hold."""

    expected: str
    low: float
    whole: bool
    high: float = np.inf


_REQUIRED = {
    "timestamp": _Number(
        "seconds, at least 0 and at most 1e10 (--time-unit: in another unit)", 0, False, 1e10
    ),
    "input_length": _Number("a whole number of tokens, at least 1", 1, True),
    "output_length": _Number("a whole number of tokens, at least 1", 1, True),
}
_OPTIONAL = {
    "think_time": _Number("seconds, at least 0 and at most 1e10", 0, False, 1e10),
    "history_length": _Number("a whole number of tokens, at least 0", 0, True),
    "score": _Number("a finite number", -np.inf, False),
    "predicted_class": _Number("a whole number, at least 0", 0, True),
    "predicted_length": _Number("a number of tokens, at least 0", 0, False),
    "priority": _Number("a whole number", -np.inf, True),
    **{name: _Number("seconds, at least 0 and at most 1e10", 0, False, 1e10) for name in SLOS},
}
NUMBERS = (*_REQUIRED, *_OPTIONAL)
_TEXT = ("request_id", "tenant", "session_id", "class", "prompt")
COLUMNS = (*NUMBERS, *_TEXT, "length_quantiles", "hash_ids", "parent")
_PARTIAL = ("think_time", "history_length", "session_id", "class", "parent", *SLOS)
"""Columns that may be given in some rows only."""

AT_ONCE = "all requests arrive at 0, unless --arrivals replaces that"
CHARACTERS_PER_TOKEN = 4  # the usual estimate for English text
FOLLOWS_DROPPED = "dropped: follows one that was dropped"
Loaded = tuple[Trace, dict[str, int]]


def estimate_tokens(text: str) -> int:
    """One token for each 4 characters or part of them."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


class Reading(NamedTuple):
    """How a file is to be read, where its user says so."""

    skip_invalid: bool = False
    """Drop and count rows that can't be used, instead of refusing the file."""
    count_tokens: Callable[[str], int] = estimate_tokens
    """Tokens of a text, for formats that hold text."""
    time_unit: str | None = None
    """Of the time stamps: s, ms, us or ns."""
    hash_block_size: int | None = None
    """Tokens that one hash id stands for."""
    columns: Mapping[str, str] = {}
    """Our column -> the file's column that fills it."""
    run: int | None = None
    """Of a file with several benchmark runs, which one; counted from 1."""
    demanded: bool = False
    """The format was demanded, not recognised."""


@dataclass
class Rows:
    """Raw columns of equal length, with the place of each row in its file."""

    path: Path
    columns: dict[str, list[Any]]
    """By our column names; None = not given."""
    lines: Sequence[int]
    """Line (or row) numbers, from 1."""
    unit: str = "line"
    dropped: Counter[str] | None = None
    """How many unreadable rows were skipped, as `dropped: reason`."""
    notes: tuple[str, ...] = ()
    """What its reader guessed: lines for people."""
    expected: Mapping[str, str] = field(default_factory=dict)
    """What a good value of a column looks like, where that is special to this file."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Our column -> its name in the file, where that is another."""
    unread: Sequence[str] = ()
    """Columns of the file that nothing reads."""

    def where(self, row: int) -> str:
        """`file:line`, or `file, row n` where the format has no lines."""
        return place(self.path, self.unit, self.lines[row])


def build_trace(
    rows: Rows,
    *,
    skip_invalid: bool,
    sort: bool = False,
    hash_block_size: int | None = None,
    unknown_parents: bool = False,
) -> Loaded:
    """Check every column and make the trace.

    Args:
        rows: raw columns.
        skip_invalid: drop and count rows that can't be used, instead of refusing the file.
        sort: put rows in order of arrival; otherwise a row out of order is refused (or sorted and counted,
            with `skip_invalid`).
        hash_block_size: tokens that one hash id stands for.
        unknown_parents: a turn with a time of its own may follow one that is not in the file, or was dropped
            (it then goes on without it, which is said); otherwise it is refused, or dropped as well.

    Returns:
        The trace, and how many rows were dropped or sorted, as `{"dropped: reason": 2, "sorted: reason": 1}`.

    Raises:
        InputError: the first row that can't be used, with its place and value; or nothing left.
    """
    counts = Counter(rows.dropped or ())
    columns = {name: values for name, values in rows.columns.items() if _given(name, values)}
    good = np.ones(len(rows.lines), dtype=bool)
    numbers: dict[str, FloatArray] = {}

    def refuse(bad: BoolArray, name: str, expected: str) -> None:
        bad &= good
        if not bad.any():
            return
        if not skip_invalid:
            row = int(np.argmax(bad))
            values = columns.get(name)
            value = "missing" if values is None or values[row] is None else _shown(values[row])
            column = f" in column {rows.sources[name]}" if name in rows.sources else ""
            unread = f" (nothing reads {', '.join(rows.unread)[:200]})" if rows.unread else ""
            raise InputError(
                f"{rows.where(row)}: {name} {value}{column}: expected {expected}"
                f"{unread if value == 'missing' else ''}; --skip-invalid drops such rows"
            )
        counts[f"dropped: invalid {name}"] += int(bad.sum())
        good[bad] = False

    for name, kind in (_REQUIRED | _OPTIONAL).items():
        if name in columns or name in _REQUIRED:
            values = columns.get(name, [None] * len(good))
            numbers[name], bad = _numbers(values, kind)
            expected = rows.expected.get(name, kind.expected)
            if name == "timestamp" and columns.keys() & {"think_time", "session_id", "parent"}:
                # a turn may wait for an answer instead
                thinks = columns.get("think_time", [None] * len(good))
                bad &= np.array(
                    [think is None or time is not None for think, time in zip(thinks, values, strict=True)]
                )
                expected += ", or think_time"
            refuse(_but_missing(bad, name, values), name, expected)
    for name, check, expected in (
        ("request_id", _is_id, "a text in Unicode or whole number"),
        ("tenant", _is_id, "a text in Unicode or whole number"),
        ("session_id", _is_id, "a text in Unicode or whole number"),
        ("class", _is_id, "a text in Unicode or whole number"),
        ("parent", _is_parent, "a request_id, or a list of them, each once"),
        ("prompt", _is_text, "a text"),
        ("hash_ids", _is_ids, "a list of whole numbers"),
        ("length_quantiles", _is_rising, "a list of rising numbers of tokens, at least 0"),
    ):
        if name in columns:
            bad = np.array([not check(value) for value in columns[name]], dtype=bool)
            refuse(_but_missing(bad, name, columns[name]), name, expected)
    if "length_quantiles" in columns and good.any():
        points = columns["length_quantiles"]
        count = len(points[int(np.argmax(good))])
        uneven = np.array([type(value) is list and len(value) != count for value in points])
        refuse(uneven, "length_quantiles", f"{count} numbers, as in the first row")
    if "request_id" in columns:
        refuse(_repeated(columns["request_id"], good), "request_id", "a request_id not used before")
    time = numbers["timestamp"]
    if "think_time" in numbers:
        waits = ~np.isnan(numbers["think_time"])
        both = waits & ~np.isnan(time)
        refuse(both, "think_time", "no timestamp beside it: a turn arrives at its time or after an answer")
        # a turn that waits keeps its place
        time = np.where(waits, np.maximum.accumulate(np.where(good & ~waits, time, 0.0)), time)
        numbers["timestamp"] = time
    late = _late(time, good)
    if late.any() and not sort:
        if not skip_invalid:
            row = int(np.argmax(late))
            raise InputError(
                f"{rows.where(row)}: timestamp {time[row]:g} is before the row above it; expected rows in "
                "order of arrival; --skip-invalid sorts them"
            )
        counts["sorted: out of order"] += int(late.sum())
    order = np.flatnonzero(good)
    if late.any():
        order = order[np.argsort(time[order], kind="stable")]
    if not len(order):
        raise _nothing_left(rows, counts)
    faults: list[Fault] = []
    lost = 0
    if columns.keys() & {"parent", "history_length", "think_time"} or not good.all():
        in_order = places_of(time, good, late)
        faults, lost = check_turns(Turns.of(columns, numbers), good, in_order, unknown_parents)
    for fault in faults:
        if not skip_invalid:
            column = f" in column {source}" if (source := rows.sources.get(fault.column or "")) else ""
            raise InputError(
                f"{rows.where(fault.row)}: {fault.column} {fault.value}{column}: expected {fault.expected}; "
                "--skip-invalid drops such rows"
            )
        counts[f"dropped: invalid {fault.column}" if fault.column else FOLLOWS_DROPPED] += 1
        good[fault.row] = False
    order = order[good[order]]
    if not len(order):
        raise _nothing_left(rows, counts)
    trace = _assemble(rows, _with_places(rows, columns, order), numbers, order, hash_block_size)
    if lost:
        trace = without_lost_parents(trace, rows.path, lost)
    return trace, dict(counts)


def _nothing_left(rows: Rows, counts: Counter[str]) -> InputError:
    dropped = sum(count for reason, count in counts.items() if reason.startswith("dropped"))
    left = f"; all {dropped} rows were dropped" if dropped else ""
    return InputError(f"{rows.path}: expected at least one request, found none{left}")


def _with_places(rows: Rows, columns: dict[str, list[Any]], order: IntArray) -> dict[str, list[Any]]:
    """Rows without `request_id` whose parents name places in the file get these as their ids, since rows that
    are dropped or sorted would move them."""
    if "parent" not in columns or "request_id" in columns:
        return columns
    if rows.dropped and (unread := sum(rows.dropped.values())):
        raise InputError(
            f"{rows.path}: parent names a row by its place, and {counted(unread, 'row')} can't be read; "
            "expected a request_id in each row"
        )
    if np.array_equal(order, np.arange(len(rows.lines))):
        return columns
    return columns | {"request_id": [str(place) for place in range(len(rows.lines))]}


def from_zero(loaded: Loaded) -> Loaded:
    """The same, with arrivals counted from the first one."""
    trace, counts = loaded
    return trace.with_columns(arrival_time=trace.arrival_time - trace.arrival_time[0]), counts


def _assemble(
    rows: Rows,
    columns: Mapping[str, list[Any]],
    numbers: Mapping[str, FloatArray],
    order: IntArray,
    hash_block_size: int | None,
) -> Trace:
    def whole(name: str) -> IntArray | None:
        if name not in numbers:
            return None
        return np.nan_to_num(numbers[name][order], nan=-1.0).astype(np.int64)  # -1: not given

    def real(name: str) -> FloatArray | None:
        return numbers[name][order] if name in numbers else None

    def picked(name: str, make: Callable[[Any], Any]) -> list[Any] | None:
        return [make(columns[name][i]) for i in order.tolist()] if name in columns else None

    path, notes = rows.path, rows.notes
    hash_ids, points = picked("hash_ids", tuple), picked("length_quantiles", list)
    prompt_tokens = numbers["input_length"][order].astype(np.int64)
    if hash_ids is not None and hash_block_size is None:
        hash_block_size = guess_hash_block_size(hash_ids, prompt_tokens, path)
        guess = f"a hash id is taken for {hash_block_size} tokens (--hash-block-size says otherwise)"
        notes = (*notes, f"{path.name}: {guess}")
    return Trace(
        arrival_time=numbers["timestamp"][order],
        num_prompt_tokens=prompt_tokens,
        num_output_tokens=numbers["output_length"][order].astype(np.int64),
        request_id=picked("request_id", str),
        session_id=picked("session_id", _text_or_none),
        parent=picked("parent", parents_of),
        history_length=whole("history_length"),
        think_times=real("think_time"),
        request_class=picked("class", _text_or_none),
        score=real("score"),
        predicted_class=whole("predicted_class"),
        predicted_length=real("predicted_length"),
        length_quantiles=None if points is None else np.array(points, dtype=np.float64),
        priority=whole("priority"),
        slo_ttft=real("slo_ttft"),
        slo_tpot=real("slo_tpot"),
        deadline=real("deadline"),
        tenant=picked("tenant", str),
        hash_ids=hash_ids,
        hash_block_size=hash_block_size,
        prompt=picked("prompt", str),
        name=path.name.split(".")[0],
        notes=notes,
    )


def _given(name: str, values: list[Any]) -> bool:
    return name in COLUMNS and any(value is not None for value in values)


def _numbers(values: list[Any], kind: _Number) -> tuple[FloatArray, BoolArray]:
    """The column as floats, and which of its values are not what they should be."""
    if not set(map(type, values)) <= {int, float}:
        values = [value if type(value) in (int, float) else np.nan for value in values]
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        array = np.array([value if abs(value) < _EXACT else np.nan for value in values])
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(array) & (array >= kind.low) & (array <= kind.high))
        if kind.whole:
            bad |= (array != np.floor(array)) | (np.abs(array) > _EXACT)
    return array, bad


def _late(time: FloatArray, good: BoolArray) -> BoolArray:
    """Which good rows arrive before one above them."""
    latest = np.maximum.accumulate(np.where(good, time, -np.inf))
    late: BoolArray = good & (np.where(good, time, np.inf) < latest)
    return late


def _repeated(values: list[Any], good: BoolArray) -> BoolArray:
    repeated = np.zeros(len(values), dtype=bool)
    seen: set[str] = set()
    for row, value in enumerate(values):
        if good[row]:
            repeated[row] = str(value) in seen
            seen.add(str(value))
    return repeated


def _is_id(value: Any) -> bool:
    if type(value) is str:
        # half of a surrogate pair can be written in JSON, and nowhere else
        return value != "" and (value.isascii() or value.encode("utf-8", "replace").decode() == value)
    return type(value) is int


def _is_parent(value: Any) -> bool:
    if type(value) is not list:
        return _is_id(value)
    return all(map(_is_id, value)) and len(set(map(str, value))) == len(value)


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _but_missing(bad: BoolArray, name: str, values: list[Any]) -> BoolArray:
    """The bad values of a column, without the missing ones where a row may lack it."""
    if name in _PARTIAL:
        bad &= np.array([value is not None for value in values], dtype=bool)
    return bad


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_ids(value: Any) -> bool:
    return type(value) is list and set(map(type, value)) <= {int}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _is_rising(value: Any) -> bool:
    if type(value) is not list or not value or not set(map(type, value)) <= {int, float}:
        return False
    return value[0] >= 0 and value[-1] < np.inf and all(a <= b for a, b in pairwise(value))
