"""The rows of a file as columns, whatever holds them: JSON Lines, JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.text.table import counted

DELIMITERS = (",", ";", "\t", "|")
LONGEST_FIELD = 1 << 30  # characters of a CSV field: the csv module's own limit is shorter than some prompts


@dataclass(frozen=True)
class Table:
    """Named columns of raw values, with the place of each row in its file."""

    path: Path
    names: tuple[str, ...]
    column: Callable[[str], list[Any]]
    """The values of one of `names`; None = not given."""
    lines: Sequence[int]
    """Line (or row) numbers, from 1."""
    unit: str = "line"
    typed: bool = True
    """Numbers are numbers; False: everything is text (CSV)."""
    time_units: dict[str, str] = field(default_factory=dict)
    """The unit of a column that was a date or a duration."""
    dropped: Counter[str] = field(default_factory=Counter)
    """How many unreadable rows were skipped, as `dropped: reason`."""

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """`file:line`, or `file, row n` where the format has no lines."""
        return place(self.path, self.unit, self.lines[row])


def place(path: Path, unit: str, number: int) -> str:
    """`file:line`, or `file, row n` where the unit is not a line."""
    return f"{path}:{number}" if unit == "line" else f"{path}, {unit} {number}"


def parquet_table(path: Path, data: bytes) -> Table:
    """A Parquet file. Dates become nanoseconds since 1970, durations seconds, decimals floats.

    Raises:
        InputError: damaged.
    """
    import polars as pl

    try:
        table = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError, pl.exceptions.PanicException):
        raise InputError(f"{path}: a damaged or truncated Parquet file") from None
    units = {}
    durations = set()
    for name, kind in table.schema.items():
        if isinstance(kind, pl.Datetime):
            units[name] = "ns"
            table = table.with_columns(pl.col(name).dt.epoch("ns"))
        elif isinstance(kind, pl.Duration):
            units[name] = "s"
            table = table.with_columns(pl.col(name).dt.total_nanoseconds())
            durations.add(name)
        elif isinstance(kind, pl.Decimal):
            table = table.with_columns(pl.col(name).cast(pl.Float64))

    def values(name: str) -> list[Any]:
        found: list[Any] = table[name].to_list()
        return [None if each is None else each / 10**9 for each in found] if name in durations else found

    return Table(
        path,
        tuple(table.columns),
        values,
        range(1, len(table) + 1),
        unit="row",
        time_units=units,
    )


def csv_table(path: Path, text: str, *, skip_invalid: bool) -> Table:
    """A CSV with a header, separated by commas, semicolons, tabs or bars; an empty field is not given.

    Raises:
        InputError: a damaged or short record; names its line.
    """
    longest = csv.field_size_limit(LONGEST_FIELD)
    try:
        return _csv_table(path, text, skip_invalid)
    finally:
        csv.field_size_limit(longest)


def _csv_table(path: Path, text: str, skip_invalid: bool) -> Table:
    blank = len(text) - len(text.lstrip("\ufeff\r\n"))
    lead = text.count("\n", 0, blank)
    text = text[blank:]
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    dropped: Counter[str] = Counter()
    records: list[list[str]] = []
    lines: list[int] = []
    first = 1
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1 + lead
        try:
            record = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise InputError(f"{path}:{first}: {error}: expected a CSV record") from None
        if not record or (len(record) == 1 and not record[0].strip()):
            continue
        if header is None:
            header = [name.strip() for name in record]
        elif len(record) == len(header):
            records.append(record)
            lines.append(first)
        elif skip_invalid:
            dropped["dropped: wrong number of fields"] += 1
        else:
            raise InputError(
                f"{path}:{first}: {counted(len(record), 'field')}: expected {len(header)}; "
                "--skip-invalid drops such rows"
            )
    header = header or []
    twice = [name for name, times in Counter(header).items() if times > 1 and name]
    if twice:
        raise InputError(f"{path}:{lead + 1}: two columns {twice[0]!r}: expected each name once")
    places = {name: at for at, name in enumerate(header)}
    return Table(
        path,
        tuple(name for name in header if name),
        lambda name: [record[places[name]] or None for record in records],
        lines,
        typed=False,
        dropped=dropped,
    )


def _delimiter(text: str) -> str:
    """What separates the names of the header: of all delimiters the one that finds most of them."""

    def fields(delimiter: str) -> int:
        try:
            return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)))
        except (StopIteration, csv.Error):
            return 0

    return max(DELIMITERS, key=fields)


def json_table(
    path: Path, objects: list[dict[str, Any]], lines: Sequence[int], unit: str, dropped: Counter[str]
) -> Table:
    """Rows that were JSON objects; a key that a row lacks is not given there."""
    names: dict[str, None] = {}
    for row in objects:
        if row.keys() - names.keys():
            names.update(dict.fromkeys(row))
    return Table(
        path,
        tuple(names),
        lambda name: [row.get(name) for row in objects],
        lines,
        unit=unit,
        dropped=dropped,
    )


def json_lines(
    path: Path, text: str, *, skip_invalid: bool
) -> tuple[list[dict[str, Any]], list[int], Counter[str]]:
    """The objects of a JSON Lines text, their line numbers, and the lines dropped, by reason.

    Raises:
        InputError: a line that is not one JSON object.
    """
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    dropped: Counter[str] = Counter()
    decode = json.JSONDecoder().raw_decode  # half the time of json.loads
    # a bare line end can't be inside JSON, so any of the three ends a line; U+2028 may be and does not
    parts = re.split(r"\r\n|\n|\r", text) if "\r" in text else text.split("\n")
    for number, padded in enumerate(parts, start=1):
        line = padded.strip()
        if not line:
            continue
        try:
            value, end = decode(line)
        except (ValueError, RecursionError):
            value, end = None, 0
        if type(value) is not dict or end != len(line):
            if not skip_invalid:
                raise InputError(f"{path}:{number}: {_excerpt(line)}: expected one JSON object a line")
            dropped["dropped: not a JSON object"] += 1
            continue
        objects.append(value)
        lines.append(number)
    return objects, lines, dropped


def json_documents(path: Path, text: str) -> list[tuple[Any, int]]:
    """All JSON values of a text, one after the other, each with the line on which it starts.

    Raises:
        InputError: damaged; names the line.
    """
    decode = json.JSONDecoder().raw_decode
    values: list[tuple[Any, int]] = []
    at, line, counted_to = 0, 1, 0
    space = re.compile(r"[\s\ufeff]*")
    while True:
        at = space.match(text, at).end()  # type: ignore[union-attr]
        if at == len(text):
            return values
        line += text.count("\n", counted_to, at)
        counted_to = at
        try:
            value, at = decode(text, at)
        except RecursionError:
            raise InputError(f"{path}:{line}: JSON nested too deeply") from None
        except ValueError as error:
            where = getattr(error, "lineno", line)
            raise InputError(f"{path}:{where}: damaged or truncated JSON") from None
        values.append((value, line))


def _excerpt(line: str) -> str:
    return repr(line if len(line) <= 40 else line[:37] + "...")
