"""Readers of flat rows, one request each: our own columns, and those of public traces.

Whatever holds the rows (JSON Lines, JSON, CSV, Parquet), they are read alike: a shape says which column is
which of ours, in which unit, and how many tokens a hash id stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simsched.errors import InputError
from simsched.workload.rows import AT_ONCE, COLUMNS, NUMBERS, Loaded, Reading, Rows, build_trace, from_zero
from simsched.workload.table import Table
from simsched.workload.trace import SLOS
from simsched.workload.units import (
    EPOCH,
    dates_in,
    likely_unit,
    notes_on_hash_ids,
    take_hash_block_size,
    take_times,
)

REQUIRED = ("timestamp", "input_length", "output_length")
ALIASES = {
    "arrival": "timestamp",
    "arrival_time": "timestamp",
    "arrived_at": "timestamp",
    "context_tokens": "input_length",
    "input_toks": "input_length",
    "input_tokens": "input_length",
    "num_prompt_tokens": "input_length",
    "prompt_tokens": "input_length",
    "generated_tokens": "output_length",
    "output_toks": "output_length",
    "output_tokens": "output_length",
    "num_output_tokens": "output_length",
    "completion_tokens": "output_length",
}
"""Other names of our columns. A time may also say its unit, as in `arrival_s` or `timestamp_ms`."""
_TIME = re.compile(r"(timestamp|arrival|arrival_time)_(s|ms|us|ns)")
_BY_HAND = {
    *("request_id", "score", "predicted_class", "predicted_length", "priority", "tenant", "prompt"),
    *("think_time", "length_quantiles"),
}
"""Columns that only our own format has."""


@dataclass(frozen=True)
class Shape:
    """Which columns a format's rows have."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Their names -> ours; all of them make the format known."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further ones, where they are given."""
    time_unit: str | None = None
    hash_block_size: int | None = None
    timed: bool = True
    """False: the time column may be missing; all requests are then there at 0."""
    public: bool = True
    """Rows are put in order of arrival and counted from the first; ours are kept as they are."""


SHAPES: dict[str, Shape] = {
    "jsonl": Shape(public=False),
    "table": Shape(public=False),
    "azure": Shape(
        {"TIMESTAMP": "timestamp", "ContextTokens": "input_length", "GeneratedTokens": "output_length"},
        time_unit="s",
    ),
    "burstgpt": Shape(
        {"Timestamp": "timestamp", "Request tokens": "input_length", "Response tokens": "output_length"},
        time_unit="s",
    ),
    "mooncake": Shape({name: name for name in REQUIRED}, time_unit="ms"),
    "bailian": Shape(
        {"chat_id": "request_id", "parent_chat_id": "parent", **{name: name for name in REQUIRED}},
        {"type": "class"},
        time_unit="s",
        hash_block_size=16,
    ),
    "vidur": Shape(
        {
            "arrived_at": "timestamp",
            "num_prefill_tokens": "input_length",
            "num_decode_tokens": "output_length",
        },
        time_unit="s",
        timed=False,
    ),
    "llmservingsim": Shape(
        {"arrival_time_ns": "timestamp", "input_toks": "input_length", "output_toks": "output_length"},
        time_unit="ns",
    ),
}
RECOGNISED = ("azure", "burstgpt", "bailian", "vidur", "llmservingsim")
"""Shapes whose columns no other has."""


def shape_of(names: Sequence[str]) -> str | None:
    """The shape of rows with these columns; `jsonl` where they are ours, None where they are nobody's."""
    for name in RECOGNISED:
        if _needed(SHAPES[name]) <= set(names):
            return name
    ours = {_ours(name) for name in names}
    return "jsonl" if ours >= set(REQUIRED) else None


def _needed(shape: Shape) -> set[str]:
    return {theirs for theirs, ours in shape.columns.items() if shape.timed or ours != "timestamp"}


def _ours(name: str) -> str:
    return "timestamp" if _TIME.fullmatch(name) else ALIASES.get(name, name)


def read_rows(table: Table, name: str, reading: Reading) -> Loaded:
    """The trace of a table's rows.

    Args:
        table: named columns.
        name: its shape, one of `SHAPES`.
        reading: options of the user, which go before what the shape says.

    Raises:
        InputError: a column that is missing or there twice, a row that can't be used, a unit that can't be
            known.
    """
    shape = SHAPES[name]
    sources = _sources(table, name, shape, reading.columns)
    columns = {ours: _values(table, theirs, ours) for ours, theirs in sources.items()}
    said = []
    expected: dict[str, str] = {}
    if "timestamp" in sources:
        column = sources["timestamp"]
        of_name = _TIME.fullmatch(column)
        known = table.time_units.get(column) or (of_name[2] if of_name else shape.time_unit)
        if known is None and reading.demanded:
            known = "s"  # `--format jsonl` and `--format table` are in seconds
        values = columns["timestamp"]
        if reading.time_unit is not None and column in table.time_units:
            raise InputError(
                f"--time-unit {reading.time_unit}: {table.path} has dates or durations in its column {column}"
            )
        if known is None and reading.time_unit is None and not dates_in(values):
            by_hand = any(any(value is not None for value in columns.get(each, ())) for each in _BY_HAND)
            known = "s" if by_hand else likely_unit(table, column, values)
            if known == "ms":
                name, shape = "mooncake", SHAPES["mooncake"]
        times = take_times(table, column, values, given=reading.time_unit, known=known or "s")
        columns["timestamp"] = times.seconds
        said.append(times.said)
        others = [each for each in ("think_time", *SLOS) if each in sources]
        if others and not times.said.endswith("in seconds"):
            said.append(f"{', '.join(others)} in seconds")
        if times.expected:
            expected["timestamp"] = times.expected
    elif not shape.timed:
        columns["timestamp"] = [0.0] * len(table)
        said.append(f"no arrival times: {AT_ONCE}")
    hash_block = None
    if "hash_ids" in sources:
        hash_block = take_hash_block_size(table, reading.hash_block_size, shape.hash_block_size)
        if hash_block is not None:
            said.append(f"hash ids of {hash_block} tokens")
    elif reading.hash_block_size is not None:
        raise InputError(f"--hash-block-size {reading.hash_block_size}: {table.path} has no hash_ids")
    if name == "bailian":
        _bailian(columns)
    file = table.path.name
    notes = [f"{file}: read as {name}: {', '.join(said)}"] if said else []
    unread = [each for each in table.names if each not in sources.values() and each != "hash_block_size"]
    if unread:
        notes.append(f"{file}: columns that nothing reads: {', '.join(unread)[:200]}")
    rows = Rows(
        table.path, columns, table.lines, unit=table.unit, dropped=table.dropped, notes=tuple(notes),
        expected=expected, sources={ours: theirs for ours, theirs in sources.items() if ours != theirs},
        unread=unread,
    )  # fmt: skip
    loaded = build_trace(
        rows, skip_invalid=reading.skip_invalid, sort=shape.public, hash_block_size=hash_block,
        unknown_parents=shape.public,
    )  # fmt: skip
    if hash_block is not None:
        trace, counts = loaded
        said = notes_on_hash_ids(trace, hash_block, demanded=reading.hash_block_size is not None)
        loaded = trace.with_columns(notes=(*trace.notes, *said)), counts
    return from_zero(loaded) if shape.public else _from_zero_if_dated(loaded)


def _from_zero_if_dated(loaded: Loaded) -> Loaded:
    """Times of a calendar count from the first one, which is said; others are kept as they are."""
    trace, _ = loaded
    if trace.arrival_time[0] < EPOCH:
        return loaded
    note = f"{trace.name}: arrivals are dates and count from the first one"
    trace, counts = from_zero(loaded)
    return trace.with_columns(notes=(*trace.notes, note)), counts


def _sources(table: Table, name: str, shape: Shape, chosen: Mapping[str, str]) -> dict[str, str]:
    """Our column -> the file's column that fills it."""
    names = set(table.names)
    for ours, theirs in chosen.items():
        if theirs not in names:
            raise InputError(f"--columns {ours}={theirs}: {table.path} has {', '.join(table.names)[:200]}")
    missing = [
        theirs
        for theirs, ours in shape.columns.items()
        if theirs not in names and theirs in _needed(shape) and ours not in chosen
    ]
    if missing:
        first = table.lines[0] if len(table) and table.typed else 1
        place = f"{table.path}:{first}" if table.unit == "line" else f"{table.path}"
        raise InputError(f"{place}: expected the columns {', '.join(shape.columns)}; {missing[0]} is missing")
    sources = dict(chosen)
    for theirs, ours in {**shape.columns, **shape.extra}.items():
        if theirs in names:
            sources.setdefault(ours, theirs)
    for each in COLUMNS:  # our own names mean the same everywhere
        if each in names and each not in shape.columns and each not in chosen.values():
            sources.setdefault(each, each)
    if shape.public:
        return sources
    _add_others(table, sources, chosen)
    missing = [ours for ours in REQUIRED if ours not in sources]
    if missing and not (table.typed and table.unit == "line"):
        place = f"{table.path}:1" if table.unit == "line" else f"{table.path}"
        raise InputError(f"{place}: expected the columns {', '.join(REQUIRED)}; {missing[0]} is missing")
    return sources


def _add_others(table: Table, sources: dict[str, str], chosen: Mapping[str, str]) -> None:
    """Fill our required columns from those with other names."""
    for ours in REQUIRED:
        others = [each for each in table.names if _ours(each) == ours and each not in chosen.values()]
        if ours in sources or not others:
            continue
        if len(others) > 1:
            raise InputError(
                f"{table.path}: {' and '.join(others)} both look like {ours}; say which with "
                f"--columns {ours}={others[0]}"
            )
        sources[ours] = others[0]


def _values(table: Table, column: str, ours: str) -> list[Any]:
    """A column's values as they should be typed; what is not is left for the check to refuse."""
    values = table.column(column)
    if ours == "hash_ids":
        return [_ids(value) if type(value) is str else value for value in values]
    if ours == "parent":
        return [_listed(value) if type(value) is str else value for value in values]
    if table.typed:
        return values
    if ours in NUMBERS:
        return _numbers(values, dates=ours == "timestamp")
    return values


_PLAIN = set("0123456789.+-eE ")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _numbers(values: list[Any], *, dates: bool) -> list[Any]:
    """Text as numbers, where it is one."""
    if None not in values and set("".join(values)) <= _PLAIN:
        try:
            whole = not any("." in value or "e" in value or "E" in value for value in values)
            return list(map(int, values)) if whole else list(map(_number, values))
        except ValueError:
            pass
    return [value if value is None else _number(value) for value in values]


def _number(text: str) -> int | float | str | None:
    clean = text.strip()
    if not _NUMBER.fullmatch(clean):
        return clean or None
    return int(clean) if clean.lstrip("+-").isdigit() else float(clean)


def _ids(text: str) -> Any:
    """`[0, 1, 2]`, or the numbers with other separators, as a list."""
    inner = text.strip().removeprefix("[").removesuffix("]").strip()
    parts = re.split(r"[\s,;|]+", inner) if inner else []
    try:
        return [int(part) for part in parts]
    except ValueError:
        return text


def _listed(text: str) -> Any:
    """A JSON list of ids as a list, and one id as it is."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _bailian(columns: dict[str, list[Any]]) -> None:
    """-1 is no parent, and all turns that lead back to one first turn are a session."""
    parents = [None if str(value) == "-1" else value for value in columns["parent"]]
    columns["parent"] = parents
    before = {str(chat): parent for chat, parent in zip(columns["request_id"], parents, strict=True)}

    def root(chat: str) -> str:
        seen = {chat}
        while before.get(chat) is not None and str(before[chat]) not in seen:
            chat = str(before[chat])
            seen.add(chat)
        return chat

    columns["session_id"] = [root(str(chat)) for chat in columns["request_id"]]


def renamed(options: str) -> dict[str, str]:
    """`--columns "input_length=prompt_tokens,..."` as our column -> theirs.

    Raises:
        InputError: not of this form, or a column twice.
    """
    found: dict[str, str] = {}
    for part in options.split(","):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not ours or not theirs:
            raise InputError(
                f"--columns {part.strip()!r}: expected OURS=THEIRS, as input_length=prompt_tokens"
            )
        if ours in found:
            raise InputError(f"--columns {ours}: given twice")
        found[ours] = theirs
    return found
