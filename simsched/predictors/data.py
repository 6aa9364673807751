"""Prompts with output lengths from Parquet or JSON Lines, checked; and the trace they become.

A file is kept whole beside the columns that are read, so that a prediction can add to it and lose nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.files import atomic_file, make_folder_of
from simsched.workload.trace import FloatArray

CHARACTERS_PER_TOKEN = 4  # English text in Llama-like vocabularies; used where no length is given
MAX_LENGTH = 1_000_000_000  # tokens; more is a slip, and no integer of numpy's overflows below


@dataclass(frozen=True)
class PromptFile:
    """A file's columns (lists of equal length), and how many rows were dropped for which reason."""

    path: Path
    columns: dict[str, list[Any]]
    dropped: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def take(self, rows: Sequence[int], dropped: Mapping[str, int] | None = None) -> PromptFile:
        """These rows alone."""
        kept = {name: [values[i] for i in rows] for name, values in self.columns.items()}
        return PromptFile(self.path, kept, {**self.dropped, **(dropped or {})})


@dataclass(frozen=True)
class Examples:
    """Distinct prompts with their output lengths."""

    prompts: list[str]
    lengths: FloatArray
    """Tokens, shape (n,): the geometric mean of a prompt's samples."""
    duplicates: int
    """Rows whose prompt had come before; their lengths are further samples of it."""

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Examples:
        return Examples([self.prompts[i] for i in rows], self.lengths[rows], 0)

    @property
    def hash(self) -> str:
        """sha256 of prompts and lengths, whatever the file's format."""
        digest = hashlib.sha256()
        for prompt, length in zip(self.prompts, self.lengths, strict=True):
            digest.update(json.dumps([prompt, round(float(length), 6)]).encode())
        return digest.hexdigest()


def read_prompts(path: str | Path, where: Sequence[str] = ()) -> PromptFile:
    """The rows of a Parquet (by suffix or magic bytes) or JSON Lines file that fit all of `where`.

    Args:
        where: conditions "COLUMN=VALUE", compared as text.

    Raises:
        InputError: no such file, unreadable, empty, or a condition on a column that is not there.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"--data {path}: {error.strerror or error}") from None
    columns = _read_parquet(path) if magic == b"PAR1" else _read_jsonl(path)
    data = PromptFile(path, columns)
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or name not in columns:
            raise InputError(
                f"--where {condition}: expected COLUMN=VALUE, COLUMN one of {', '.join(columns)}"
            )
        data = data.take([i for i, entry in enumerate(data.columns[name]) if str(entry) == value])
    if len(data) == 0:
        raise InputError(f"--data {path}: no rows" + (f" with {' and '.join(where)}" if where else ""))
    return data


def usable_rows(
    data: PromptFile, prompt_column: str, length_columns: Sequence[str], skip_invalid: bool
) -> PromptFile:
    """The rows with a prompt and every length at least 1.

    Raises:
        InputError: a column is missing, or a row can't be used and `skip_invalid` is off.
    """
    for option, name in (
        ("--prompt-column", prompt_column),
        *(("--length-column", c) for c in length_columns),
    ):
        if name not in data.columns:
            raise InputError(f"{option} {name}: {data.path} has the columns {', '.join(data.columns)}")
    keep: list[int] = []
    dropped: dict[str, int] = {}
    for i, prompt in enumerate(data.columns[prompt_column]):
        reason = _prompt_fault(prompt) or next(
            filter(None, (_length_fault(data.columns[name][i], name) for name in length_columns)), None
        )
        if reason is None:
            keep.append(i)
        elif skip_invalid:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            raise InputError(
                f"--data {data.path}: row {i + 1}: {reason}; expected a prompt and a length of at least "
                "1 token (--skip-invalid drops and counts such rows)"
            )
    if not keep:
        raise InputError(f"--data {data.path}: no usable row: {describe_dropped(dropped)}")
    return data.take(keep, dropped)


def examples(data: PromptFile, prompt_column: str, length_columns: Sequence[str]) -> Examples:
    """Distinct prompts; several samples of one (columns, or rows with the same prompt) become one length."""
    logs = np.mean([np.log(lengths(data, name)) for name in length_columns], axis=0)
    samples: dict[str, list[float]] = {}
    for prompt, log in zip(data.columns[prompt_column], logs, strict=True):
        samples.setdefault(prompt, []).append(float(log))
    merged = np.exp(np.array([np.mean(values) for values in samples.values()]))
    return Examples(list(samples), merged, len(data) - len(samples))


def lengths(data: PromptFile, column: str) -> FloatArray:
    """A column of usable rows as tokens."""
    return np.array(data.columns[column], dtype=np.float64)


def describe_dropped(dropped: Mapping[str, int]) -> str:
    """`12 rows: no prompt; 3 rows: output_length missing`."""
    return "; ".join(f"{count} row{'s' if count > 1 else ''}: {reason}" for reason, count in dropped.items())


def write_trace(data: PromptFile, output: str | Path) -> None:
    """All columns, Parquet if `output` ends so, else JSON Lines (missing values left out); atomic."""
    import polars as pl

    output = Path(output)
    make_folder_of(output)
    with atomic_file(output) as file:
        if output.suffix == ".parquet":
            pl.DataFrame(data.columns, strict=False).write_parquet(file)
            return
        for row in zip(*data.columns.values(), strict=True):
            entry = {k: v for k, v in zip(data.columns, row, strict=True) if v is not None}
            file.write(json.dumps(entry, default=str).encode() + b"\n")


def _prompt_fault(prompt: object) -> str | None:
    if not isinstance(prompt, str):
        return "prompt missing" if prompt is None else f"prompt is not text but {type(prompt).__name__}"
    return None if prompt.strip() else "prompt empty"


def _length_fault(value: object, name: str) -> str | None:
    if value is None:
        return f"{name} missing"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{name} is not a number"
    if not value >= 1:  # a NaN neither
        return f"{name} is not at least 1"
    return f"{name} is over {MAX_LENGTH:,}" if value > MAX_LENGTH else None


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import polars as pl

    try:
        return pl.read_parquet(path).to_dict(as_series=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"--data {path}: not a readable Parquet file: {first_line}") from None


def _read_jsonl(path: Path) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise InputError(
                    f"--data {path}: line {number} is not a JSON object; expected Parquet or JSON Lines"
                )
            rows.append(row)
            names.update(dict.fromkeys(row))
    return {name: [row.get(name) for row in rows] for name in names}
