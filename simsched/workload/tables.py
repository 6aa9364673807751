"""Readers of tables: CSV (Azure, BurstGPT, plain) and Parquet."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.workload.rows import COLUMNS, Loaded, Reading, Rows, build_trace, from_zero

ALIASES = {
    "arrival_s": "timestamp",
    "arrival_time": "timestamp",
    "context_tokens": "input_length",
    "input_toks": "input_length",
    "num_prompt_tokens": "input_length",
    "generated_tokens": "output_length",
    "output_toks": "output_length",
    "num_output_tokens": "output_length",
}
AZURE = {"TIMESTAMP": "timestamp", "ContextTokens": "input_length", "GeneratedTokens": "output_length"}
BURSTGPT = {"Timestamp": "timestamp", "Request tokens": "input_length", "Response tokens": "output_length"}


def read_azure(path: Path, text: str, reading: Reading) -> Loaded:
    """TIMESTAMP (a date), ContextTokens, GeneratedTokens."""
    return from_zero(_read(path, text, reading, AZURE, dates=True))


def read_burstgpt(path: Path, text: str, reading: Reading) -> Loaded:
    """Timestamp (s), Request tokens, Response tokens."""
    return from_zero(_read(path, text, reading, BURSTGPT))


def read_table(path: Path, text: str, reading: Reading) -> Loaded:
    """CSV with our column names, or those of `ALIASES`; arrivals are kept as they are."""
    return _read(path, text, reading, ALIASES)


def _read(path: Path, text: str, reading: Reading, aliases: dict[str, str], dates: bool = False) -> Loaded:
    public = aliases is not ALIASES
    reader = csv.reader(text.splitlines())
    try:
        header = [name.strip() for name in next(reader)]
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}: expected a CSV line") from None
    places = {aliases.get(name, name): at for at, name in enumerate(header)}
    missing = [name for name in aliases if public and name not in header]
    if missing:
        raise InputError(f"{path}:1: expected the columns {', '.join(aliases)}")
    dropped: Counter[str] = Counter()
    whole = []
    for line, record in records:
        if len(record) == len(header):
            whole.append((line, record))
        elif reading.skip_invalid:
            dropped["dropped: wrong number of fields"] += 1
        else:
            raise InputError(f"{path}:{line}: {len(record)} fields: expected {len(header)}")
    columns: dict[str, list[Any]] = {}
    for name in COLUMNS:
        if name in places and name != "hash_ids":
            values: Sequence[str] = [record[places[name]] for _, record in whole]
            columns[name] = list(values) if name in ("request_id", "tenant", "prompt") else _parsed(values)
    if dates:
        columns["timestamp"] = _dates([record[places["timestamp"]] for _, record in whole])
    rows = Rows(path, columns, [line for line, _ in whole], dropped=dropped)
    return build_trace(rows, skip_invalid=reading.skip_invalid, sort=public)


def _parsed(values: Sequence[str]) -> list[Any]:
    """Numbers where they are numbers; other text is left for the check to refuse."""
    try:
        return list(map(float, values))
    except ValueError:
        return [_number_or_text(value) for value in values]


def _number_or_text(value: str) -> float | str | None:
    try:
        return float(value)
    except ValueError:
        return value.strip() or None


def _dates(values: Sequence[str]) -> list[Any]:
    """Seconds since 1970 of `2023-11-16 18:17:03.9799600` (or with +00:00); text where it is no date."""
    clean = [value.strip().removesuffix("+00:00").removesuffix("Z") for value in values]
    try:
        nanoseconds = np.array(clean, dtype="datetime64[ns]").astype(np.int64)
    except ValueError:
        return [_date_or_text(value) for value in clean]
    return list((nanoseconds / 1e9).tolist())


def _date_or_text(value: str) -> float | str | None:
    try:
        return int(np.datetime64(value, "ns").astype(np.int64)) / 1e9 if value else None
    except ValueError:
        return value


def read_parquet(path: Path, reading: Reading) -> Loaded:
    """Parquet with our column names, or those of `ALIASES`; arrivals are kept as they are."""
    import polars as pl

    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        raise InputError(f"{path}: a damaged or truncated Parquet file") from None
    columns: dict[str, list[Any]] = {}
    for name in table.columns:
        ours = ALIASES.get(name, name)
        if ours in COLUMNS and ours not in columns:
            columns[ours] = table[name].to_list()
    rows = Rows(path, columns, range(1, len(table) + 1), unit="row")
    return build_trace(rows, skip_invalid=reading.skip_invalid)
