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

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.workload.rows import COLUMNS, Rows, build_trace
from simsched.workload.trace import Trace
from simsched.workload.trace_io import parse_lines, read_bytes, text_of, trace_of_lines

Loaded = tuple[Trace, dict[str, int]]

FORMATS = ("jsonl", "table", "azure", "burstgpt", "mooncake", "sharegpt", "vllm-bench")
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
_AZURE = {"TIMESTAMP": "timestamp", "ContextTokens": "input_length", "GeneratedTokens": "output_length"}
_BURSTGPT = {"Timestamp": "timestamp", "Request tokens": "input_length", "Response tokens": "output_length"}
_MOONCAKE_BLOCK = 512
CHARACTERS_PER_TOKEN = 4  # the usual estimate for English text


def load_trace(
    path: Path | str,
    *,
    format: str | None = None,
    skip_invalid: bool = False,
    count_tokens: Callable[[str], int] | None = None,
) -> Loaded:
    """Read a trace, plain or gzipped.

    Args:
        path: the file.
        format: one of `FORMATS`; None = recognised by its content.
        skip_invalid: drop and count rows that can't be used, instead of refusing the file.
        count_tokens: tokens of a text, for formats that hold text; None = one for each 4 characters.

    Returns:
        The trace, and how many rows were dropped or sorted, as `{"dropped: invalid score": 2}`.

    Raises:
        InputError: names the file, the line and the value, and says what was expected.
    """
    path = Path(path)
    if format not in (None, *FORMATS):
        raise InputError(f"--format {format}: expected one of {', '.join(FORMATS)}")
    if path.is_dir():
        raise InputError(f"{path}: expected a trace file, found a folder")
    data = read_bytes(path)
    if data[:4] == b"PAR1":
        if format not in (None, "table"):
            raise InputError(f"{path}: expected the format {format}, found a Parquet table")
        return _read_parquet(path, skip_invalid)
    text = text_of(path, data)
    if not text.strip():
        raise InputError(f"{path}: expected at least one request, found an empty file")
    format = format or _recognise(path, text)
    if format == "jsonl":
        return trace_of_lines(path, text, skip_invalid=skip_invalid)
    if format == "mooncake":
        return _read_mooncake(path, text, skip_invalid)
    if format in ("sharegpt", "vllm-bench"):
        document = _json_document(path, text)
        if format == "vllm-bench":
            return _read_vllm_bench(path, document, skip_invalid)
        return _read_sharegpt(path, document, skip_invalid, count_tokens or estimate_tokens)
    return _read_csv(path, text, format, skip_invalid)


def estimate_tokens(text: str) -> int:
    """One token for each 4 characters, at least 1 if there are any."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _recognise(path: Path, text: str) -> str:
    first = text.lstrip()[0]
    if ".jsonl" in path.suffixes and first != "{":
        return "jsonl"
    if first == "[":
        return "sharegpt"
    if first != "{":
        header = text.split("\n", 1)[0].strip().split(",")
        names = {name.strip() for name in header}
        for format, columns in (("azure", _AZURE), ("burstgpt", _BURSTGPT)):
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
    except ValueError:
        # not one object a line: a whole document, or damaged JSON Lines
        return "vllm-bench" if '"input_lens"' in text[:100_000] else "jsonl"
    if "input_lens" in row:
        return "vllm-bench"
    return "mooncake" if _looks_like_mooncake(text, row) else "jsonl"


def _looks_like_mooncake(text: str, first: dict[str, Any]) -> bool:
    """Its keys, whole-number times and 512-token blocks; a trace of ours with all three says `request_id`."""
    if set(first) != {"timestamp", "input_length", "output_length", "hash_ids"}:
        return False
    for line in text.split("\n", 50)[:50]:
        try:
            row = json.loads(line)
            blocks = -(-row["input_length"] // _MOONCAKE_BLOCK)
            if type(row["timestamp"]) is not int or len(row["hash_ids"]) != blocks:
                return False
        except (ValueError, KeyError, TypeError):
            continue  # its reader will say what is wrong with the line
    return True


def _read_mooncake(path: Path, text: str, skip_invalid: bool) -> Loaded:
    objects, lines, dropped = parse_lines(path, text, skip_invalid=skip_invalid)
    keys = {key for row in objects for key in row}
    columns = {name: [row.get(name) for row in objects] for name in COLUMNS if name in keys}
    columns["timestamp"] = [_scaled(value, 1e-3) for value in columns.get("timestamp", [])]
    rows = Rows(path, columns, lines, dropped=dropped)
    return _from_zero(
        build_trace(rows, skip_invalid=skip_invalid, sort=True, hash_block_size=_MOONCAKE_BLOCK)
    )


def _scaled(value: Any, factor: float) -> Any:
    return value * factor if type(value) in (int, float) else value


def _read_csv(path: Path, text: str, format: str, skip_invalid: bool) -> Loaded:
    aliases = {"azure": _AZURE, "burstgpt": _BURSTGPT}.get(format, ALIASES)
    reader = csv.reader(text.splitlines())
    try:
        header = [name.strip() for name in next(reader)]
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}: expected a CSV line") from None
    places = {aliases.get(name, name): at for at, name in enumerate(header)}
    missing = [name for name in aliases if name not in header] if format != "table" else []
    if missing:
        raise InputError(f"{path}:1: expected the columns {', '.join(aliases)}")
    dropped: Counter[str] = Counter()
    whole = []
    for line, record in records:
        if len(record) == len(header):
            whole.append((line, record))
        elif skip_invalid:
            dropped["dropped: wrong number of fields"] += 1
        else:
            raise InputError(f"{path}:{line}: {len(record)} fields: expected {len(header)}")
    columns: dict[str, list[Any]] = {}
    for name in COLUMNS:
        if name in places and name != "hash_ids":
            values: Sequence[str] = [record[places[name]] for _, record in whole]
            columns[name] = list(values) if name in ("request_id", "tenant", "prompt") else _parsed(values)
    if format == "azure":
        columns["timestamp"] = _dates([record[places["timestamp"]] for _, record in whole])
    rows = Rows(path, columns, [line for line, _ in whole], dropped=dropped)
    loaded = build_trace(rows, skip_invalid=skip_invalid, sort=format != "table")
    return loaded if format == "table" else _from_zero(loaded)


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


def _read_parquet(path: Path, skip_invalid: bool) -> Loaded:
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
    return build_trace(rows, skip_invalid=skip_invalid)


def _json_document(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{path}: JSON nested too deeply") from None
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise InputError(f"{path}:{line}: damaged or truncated JSON") from None


def _read_vllm_bench(path: Path, document: Any, skip_invalid: bool) -> Loaded:
    lists: dict[str, list[Any]] = {}
    for ours, theirs in (("input_length", "input_lens"), ("output_length", "output_lens")):
        values = document.get(theirs) if isinstance(document, dict) else None
        if not isinstance(values, list):
            raise InputError(f"{path}: expected {theirs}, a list; `vllm bench serve` needs --save-detailed")
        lists[ours] = values
    n = len(lists["input_length"])
    lists["timestamp"] = document.get("start_times") or [0.0] * n
    if not isinstance(lists["timestamp"], list) or {len(values) for values in lists.values()} != {n}:
        raise InputError(f"{path}: expected input_lens, output_lens and start_times to be equally long")
    rows = Rows(path, lists, range(1, n + 1), unit="request")
    return _from_zero(build_trace(rows, skip_invalid=skip_invalid, sort=True))


def _read_sharegpt(
    path: Path, document: Any, skip_invalid: bool, count_tokens: Callable[[str], int]
) -> Loaded:
    if not isinstance(document, list):
        raise InputError(f"{path}: expected a JSON list of conversations")
    columns: dict[str, list[Any]] = {
        name: [] for name in ("timestamp", "input_length", "output_length", "prompt")
    }
    lines: list[int] = []
    dropped: Counter[str] = Counter()
    for number, entry in enumerate(document, start=1):
        texts = _first_exchange(entry)
        if texts is None:
            if not skip_invalid:
                raise InputError(
                    f"{path}, conversation {number}: expected a question and an answer in `conversations`"
                )
            dropped["dropped: no question and answer"] += 1
            continue
        columns["timestamp"].append(0.0)
        columns["input_length"].append(count_tokens(texts[0]))
        columns["output_length"].append(count_tokens(texts[1]))
        columns["prompt"].append(texts[0])
        lines.append(number)
    rows = Rows(path, columns, lines, unit="conversation", dropped=dropped)
    return build_trace(rows, skip_invalid=skip_invalid)


def _first_exchange(entry: Any) -> tuple[str, str] | None:
    """The first two turns of a conversation, as the serving benchmarks take them."""
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        return None
    values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
    first, second = values
    return (first, second) if type(first) is str and type(second) is str else None


def _from_zero(loaded: Loaded) -> Loaded:
    trace, counts = loaded
    return trace.with_columns(arrival_time=trace.arrival_time - trace.arrival_time[0]), counts
