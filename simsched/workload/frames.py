"""Traces from Python: a data frame or a list of dicts, written as the rows of a JSON Lines file.

Nothing is interpreted here: the file is then read as any other is, so its columns mean what they mean there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.files import atomic_file
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace


def write_rows(data: Any, path: Path) -> None:
    """Write a `Trace`, a polars or pandas data frame, or an iterable of dicts.

    Raises:
        InputError: something else, or a value that JSON does not have.
    """
    if isinstance(data, Trace):
        write_trace(data, path)
        return
    with atomic_file(path) as file:
        for number, row in enumerate(_rows(data), start=1):
            if not isinstance(row, Mapping):
                raise InputError(f"trace: row {number} is a {type(row).__name__}; expected a dict")
            given = {str(name): _plain(value) for name, value in row.items() if not _is_missing(value)}
            try:
                file.write(json.dumps(given, ensure_ascii=False).encode() + b"\n")
            except TypeError as error:
                raise InputError(f"trace: row {number}: {error}") from None


def _rows(data: Any) -> Iterable[Any]:
    if hasattr(data, "to_dicts"):  # polars
        rows: Iterable[Any] = data.to_dicts()
    elif hasattr(data, "to_dict") and hasattr(data, "columns"):  # pandas
        rows = data.to_dict("records")
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        rows = data
    else:
        raise InputError(
            f"trace: a {type(data).__name__}; expected a path, a Trace, a data frame of polars or pandas, "
            "or a list of dicts"
        )
    return rows


def _is_missing(value: Any) -> bool:
    """None, NaN, or pandas' NA and NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays, and dates, as JSON has them; durations in seconds."""
    if isinstance(value, timedelta):  # pandas' is one, too
        return value.total_seconds()
    if isinstance(value, np.timedelta64):
        return value / np.timedelta64(1, "s")
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return value.isoformat() if hasattr(value, "isoformat") else value
