"""Reading any trace: our JSON Lines, plain tables, and the public formats.

| format | file | arrivals |
|---|---|---|
| `jsonl` | our JSON Lines | seconds |
| `table` | CSV or Parquet with our column names, or those of `ALIASES` | seconds |
| `azure` | Azure LLM inference CSV (TIMESTAMP, ContextTokens, GeneratedTokens) | dates |
| `burstgpt` | BurstGPT CSV (Timestamp, Request tokens, Response tokens) | seconds |
| `mooncake` | Mooncake JSON Lines (hash_ids of 512-token blocks) | milliseconds |
| `sharegpt` | ShareGPT JSON (conversations): the first question and answer | none: all at 0 |
| `vllm-bench` | result file of `vllm bench serve --save-detailed` | `start_times`, else none |

Arrivals of the public formats are sorted and count from the first one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.text.table import counted
from simsched.workload.json_formats import MOONCAKE_BLOCK, read_mooncake, read_sharegpt, read_vllm_bench
from simsched.workload.rows import Loaded, Reading, estimate_tokens
from simsched.workload.tables import (
    ALIASES,
    AZURE,
    BURSTGPT,
    read_azure,
    read_burstgpt,
    read_parquet,
    read_table,
)
from simsched.workload.trace import Trace
from simsched.workload.trace_io import read_bytes, read_lines, text_of

READERS: dict[str, Callable[[Path, str, Reading], Loaded]] = {
    "jsonl": read_lines,
    "table": read_table,
    "azure": read_azure,
    "burstgpt": read_burstgpt,
    "mooncake": read_mooncake,
    "sharegpt": read_sharegpt,
    "vllm-bench": read_vllm_bench,
}
FORMATS = tuple(READERS)


def load_trace(
    path: Path | str,
    *,
    format: str | None = None,
    skip_invalid: bool = False,
    count_tokens: Callable[[str], int] = estimate_tokens,
) -> Loaded:
    """Read a trace, plain or gzipped.

    Args:
        path: the file.
        format: one of `FORMATS`; None = recognised by its content.
        skip_invalid: drop and count rows that can't be used, instead of refusing the file.
        count_tokens: tokens of a text, for formats that hold text; by default one for each 4 characters.

    Returns:
        The trace (its `notes` say what was guessed), and how many rows were dropped or sorted, as
        `{"dropped: invalid score": 2}`.

    Raises:
        InputError: names the file, the line and the value, and says what was expected.
    """
    path, reading = Path(path), Reading(skip_invalid, count_tokens)
    if format not in (None, *FORMATS):
        raise InputError(f"--format {format}: expected one of {', '.join(FORMATS)}")
    data = read_bytes(path)
    if data[:4] == b"PAR1":
        if format not in (None, "table"):
            raise InputError(f"{path}: expected the format {format}, found a Parquet table")
        return read_parquet(path, reading)
    text = text_of(path, data)
    if not text.strip():
        raise InputError(f"{path}: expected at least one request, found an empty file")
    name = format or _recognise(path, text)
    trace, counts = READERS[name](path, text, reading)
    if format is None and name == "mooncake":
        note = (
            f"{path.name}: read as mooncake: timestamp in milliseconds, hash_ids of {MOONCAKE_BLOCK} tokens; "
            "--format jsonl takes seconds"
        )
        trace = trace.with_columns(notes=(note, *trace.notes))
    return trace, counts


def row_notes(trace: Trace, counts: dict[str, int]) -> list[str]:
    """What `load_trace` dropped and sorted, a line each, with the number of rows that there were."""
    rows = len(trace) + sum(count for reason, count in counts.items() if reason.startswith("dropped"))
    return [
        f"{trace.name}: {count:,} of {counted(rows, 'row')} {reason}"
        for reason, count in counts.items()
        if count
    ]


def _recognise(path: Path, text: str) -> str:
    first = text.lstrip()[0]
    if ".jsonl" in path.suffixes and first != "{":
        return "jsonl"
    if first == "[":
        return "sharegpt"
    if first != "{":
        header = text.split("\n", 1)[0].strip().split(",")
        names = {name.strip() for name in header}
        for format, columns in (("azure", AZURE), ("burstgpt", BURSTGPT)):
            if names >= set(columns):
                return format
        if {ALIASES.get(name, name) for name in names} >= {"timestamp", "input_length", "output_length"}:
            return "table"
        raise InputError(
            f"{path}:1: {', '.join(sorted(names))[:60]!r}: expected JSON Lines, or a CSV header with "
            "timestamp, input_length and output_length"
        )
    line = text.lstrip().split("\n", 1)[0]
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        # not one object a line: a whole document, or damaged JSON Lines
        return "vllm-bench" if '"input_lens"' in text[:100_000] else "jsonl"
    if "input_lens" in row:
        return "vllm-bench"
    return "mooncake" if _looks_like_mooncake(text, row) else "jsonl"


def _looks_like_mooncake(text: str, first: dict[str, Any]) -> bool:
    """Its keys, whole-number times and 512-token blocks; a trace of ours may say `request_id` or --format."""
    if set(first) != {"timestamp", "input_length", "output_length", "hash_ids"}:
        return False
    for line in text.split("\n", 50)[:50]:
        try:
            row = json.loads(line)
            blocks = -(-row["input_length"] // MOONCAKE_BLOCK)
            if type(row["timestamp"]) is not int or len(row["hash_ids"]) != blocks:
                return False
        except (ValueError, KeyError, TypeError):
            continue  # its reader will say what is wrong with the line
    return True
