"""Which unit a file's times are in, and how many tokens one of its hash ids stands for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from simsched.errors import InputError
from simsched.text.table import counted
from simsched.workload.table import Table
from simsched.workload.trace import IntArray, Trace

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Of one unit of `--time-unit`."""
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EPOCH = 1e8  # seconds: later times are of a calendar, not of a run
HASH_BLOCKS = (512, 256, 128, 64, 32, 16)
"""Sizes that are tried where a file does not say its own, Mooncake's first."""

_SPARSE = 5.0
"""Whole numbers this far apart in the mean are as likely milliseconds (200 requests/s) as seconds (0.2)."""
_FEW = 10  # rows: fewer are typed by hand, in seconds
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d+))? ?(Z|UTC|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)

_OTHER_DATE = re.compile(r"\d[/.-]\d+[/.-]\d", re.ASCII)
"""A date in another form, such as 16/11/2023."""


class Times(NamedTuple):
    """Time stamps in seconds, and how they were taken."""

    seconds: list[Any]
    """What is no time is left as it was, for the check to refuse."""
    said: str
    """Such as `timestamp in milliseconds`."""
    expected: str | None = None
    """What a good value looks like, where not a number of seconds."""


def in_seconds(values: list[Any], unit: str) -> list[Any]:
    """Numbers of this unit in seconds; other values are left as they are.

    Whole numbers that count from 1970 count from the least of them afterwards: as seconds since 1970 they
    would be rounded to a quarter of a microsecond.
    """
    if unit == "s":
        return values
    per = round(1 / SECONDS[unit])  # dividing by a whole number rounds once
    whole = [value for value in values if type(value) is int]
    first = min(whole, default=0)
    if first < EPOCH * per or any(type(value) is float for value in values):
        first = 0
    return [(value - first) / per if type(value) in (int, float) else value for value in values]


def dates_in(values: Sequence[Any]) -> bool:
    """Is there a date with a time among the first values?"""
    return any(type(value) is str and _DATE.fullmatch(value.strip()) for value in values[:100])


def date_nanoseconds(values: Sequence[Any]) -> list[Any]:
    """Nanoseconds since 1970 of dates such as `2023-11-16 18:17:03.9799600` or `2024-05-10T00:00:01+02:00`
    (without an offset: UTC); what is no date is left as it was."""
    return [_date(value) if type(value) is str else value for value in values]


def _date(text: str) -> int | str:
    found = _DATE.fullmatch(text.strip())
    if found is None:
        return text
    day, clock, fraction, offset = found.groups()
    try:
        seconds = int(np.datetime64(f"{day}T{clock}", "s").astype(np.int64))
    except ValueError:
        return text
    if offset not in (None, "Z", "UTC"):
        digits = offset[1:].replace(":", "").ljust(4, "0")
        ahead = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        seconds -= ahead if offset[0] == "+" else -ahead
    return seconds * 10**9 + int((fraction or "0")[:9].ljust(9, "0"))


def take_times(
    table: Table, column: str, values: list[Any], *, given: str | None, known: str | None
) -> Times:
    """Time stamps in seconds.

    Args:
        table: where they are from.
        column: its column's name.
        values: numbers or dates.
        given: the unit of `--time-unit`.
        known: the unit that the format or the column itself says.

    Raises:
        InputError: dates, for which a unit was given.
    """
    if dates_in(values):
        if given is not None:
            raise InputError(f"--time-unit {given}: {table.path} has dates in its column {column}")
        # numbers among dates are no times: as text they are refused
        dates = date_nanoseconds([value if value is None else str(value) for value in values])
        return Times(in_seconds(dates, "ns"), f"{column} is a date", "a date such as 2023-11-16 18:17:03.97")
    unit = given or known or "s"
    other = next((each for each in values[:100] if type(each) is str and _OTHER_DATE.search(each)), None)
    expected = None if other is None else f"{UNIT_NAMES[unit]}, or a date such as 2023-11-16 18:17:03.97"
    return Times(in_seconds(values, unit), f"{column} in {UNIT_NAMES[unit]}", expected)


def likely_unit(table: Table, column: str, values: list[Any]) -> str:
    """The unit of a time column that nothing says: seconds as in our format, or Mooncake's milliseconds.

    Raises:
        InputError: it may be either.
    """
    times = [value for value in values if type(value) in (int, float) and abs(value) < 1e300]
    if len(times) < 2 or max(times) == min(times):
        return "s"
    gap = (max(times) - min(times)) / (len(times) - 1)
    whole = all(value == int(value) for value in times)
    integers = whole and (not table.typed or all(type(value) is int for value in times))
    few = len(times) < _FEW
    if "hash_ids" in table.names and "hash_block_size" not in table.names:  # as Mooncake's traces have them
        if gap >= _SPARSE and (integers or (whole and not few)):
            return "ms"
        clear = few or (gap < _SPARSE and not integers)
    else:
        clear = few or gap < _SPARSE or not integers
    if clear:
        return "s"
    raise InputError(
        f"{table.path}: {column} may be in seconds ({1 / gap:.3g} requests/s) or milliseconds "
        f"({1000 / gap:.3g} requests/s); say which with --time-unit s or --time-unit ms"
    )


def take_hash_block_size(table: Table, given: int | None, known: int | None) -> int | None:
    """Tokens of a hash id, by `--hash-block-size`, by the rows' own `hash_block_size`, or by the format.

    Raises:
        InputError: rows that differ, or a size that is no whole number.
    """
    if "hash_block_size" not in table.names:
        return given or known
    sizes = table.column("hash_block_size")
    first = next((size for size in sizes if size is not None), None)
    for row, size in enumerate(sizes):
        if size is None:
            continue
        try:
            number = int(size) if not table.typed else size
        except ValueError:
            number = size
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if type(number) is not int or number < 1:
            raise InputError(
                f"{table.where(row)}: hash_block_size {size!r}: expected a whole number of tokens"
            )
        if size != first:
            raise InputError(
                f"{table.where(row)}: hash_block_size {number}: expected {first}, as in the rows above"
            )
        known = number
    if given is not None and known is not None and given != known:
        raise InputError(f"--hash-block-size {given}: {table.path} says {known} itself")
    return given or known


def guess_hash_block_size(hash_ids: Sequence[tuple[int, ...]], prompt_tokens: IntArray, path: Any) -> int:
    """Tokens that one hash id stands for, where nothing says it: the largest size that fits.

    A size fits if at least nine of ten prompts have an id for each of their blocks (the last partial one
    counted or not) and none has more.

    Raises:
        InputError: none of `HASH_BLOCKS` fits.
    """
    ids = np.array([len(chunk) for chunk in hash_ids], dtype=np.int64)
    for size in HASH_BLOCKS:
        blocks = -(-prompt_tokens // size)
        if np.all(ids <= blocks) and np.mean(ids >= prompt_tokens // size) >= 0.9:
            return size
    if np.any(ids > -(-prompt_tokens // HASH_BLOCKS[-1])):
        raise InputError(f"{path}: hash_ids: expected at most one id for each 16 tokens of the prompt")
    raise InputError(
        f"{path}: hash_ids fit no block size (512, 256, ..., 16) for nine of ten prompts; say how many "
        "tokens one stands for with --hash-block-size"
    )


def notes_on_hash_ids(trace: Trace, size: int, *, demanded: bool) -> list[str]:
    """Lines where ids of so many tokens do not fit the prompts: some have more ids than blocks, or a tenth of
    all tokens is in none.

    Raises:
        InputError: prompts with more ids than blocks, where the size was `demanded` by `--hash-block-size`.
    """
    assert trace.hash_ids is not None
    ids = np.array([len(each) for each in trace.hash_ids], dtype=np.int64)
    prompts = trace.num_prompt_tokens
    notes = []
    if many := int((ids > -(-prompts // size)).sum()):
        said = f"{many:,} of {counted(len(trace), 'prompt')} have more hash ids than blocks of {size} tokens"
        if demanded:
            raise InputError(f"--hash-block-size {size}: {trace.name}: {said}; expected fewer tokens an id")
        notes.append(f"{trace.name}: {said}; those beyond the prompt are not read")
    share = float(np.minimum(ids * size, prompts).sum() / prompts.sum())
    if share < 0.9:
        notes.append(
            f"{trace.name}: hash ids stand for {share:.0%} of the prompt tokens; others are not shared"
        )
    return notes
