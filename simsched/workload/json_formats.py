"""Readers of JSON: Mooncake, ShareGPT, and result files of vLLM's benchmark."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.workload.rows import (
    CHARACTERS_PER_TOKEN,
    COLUMNS,
    Loaded,
    Reading,
    Rows,
    build_trace,
    estimate_tokens,
    from_zero,
)
from simsched.workload.trace_io import parse_lines

MOONCAKE_BLOCK = 512  # tokens
AT_ONCE = "all requests arrive at 0, unless --arrivals replaces that"


def read_mooncake(path: Path, text: str, reading: Reading) -> Loaded:
    """JSON Lines: timestamp (ms), input_length, output_length, hash_ids of 512 tokens."""
    objects, lines, dropped = parse_lines(path, text, skip_invalid=reading.skip_invalid)
    keys = {key for row in objects for key in row}
    columns = {name: [row.get(name) for row in objects] for name in COLUMNS if name in keys}
    columns["timestamp"] = [_scaled(value, 1e-3) for value in columns.get("timestamp", [])]
    rows = Rows(path, columns, lines, dropped=dropped)
    skip = reading.skip_invalid
    return from_zero(build_trace(rows, skip_invalid=skip, sort=True, hash_block_size=MOONCAKE_BLOCK))


def _scaled(value: Any, factor: float) -> Any:
    return value * factor if type(value) in (int, float) else value


def _document(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{path}: JSON nested too deeply") from None
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise InputError(f"{path}:{line}: damaged or truncated JSON") from None


def read_vllm_bench(path: Path, text: str, reading: Reading) -> Loaded:
    """A result of `vllm bench serve --save-detailed`; older versions give no start_times: all at 0."""
    document = _document(path, text)
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
    notes = () if document.get("start_times") else (f"{path.name}: no start_times: {AT_ONCE}",)
    rows = Rows(path, lists, range(1, n + 1), unit="request", notes=notes)
    return from_zero(build_trace(rows, skip_invalid=reading.skip_invalid, sort=True))


def read_sharegpt(path: Path, text: str, reading: Reading) -> Loaded:
    """A list of conversations: the first question and answer of each; all arrive at 0."""
    document = _document(path, text)
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
            if not reading.skip_invalid:
                raise InputError(
                    f"{path}, conversation {number}: expected a question and an answer in `conversations`"
                )
            dropped["dropped: no question and answer"] += 1
            continue
        columns["timestamp"].append(0.0)
        columns["input_length"].append(reading.count_tokens(texts[0]))
        columns["output_length"].append(reading.count_tokens(texts[1]))
        columns["prompt"].append(texts[0])
        lines.append(number)
    notes = [f"{path.name}: conversations have no times: {AT_ONCE}"]
    if reading.count_tokens is estimate_tokens:
        notes.append(
            f"{path.name}: lengths are estimates, a token for every {CHARACTERS_PER_TOKEN} characters; "
            "trace convert --tokenizer counts them"
        )
    rows = Rows(path, columns, lines, unit="conversation", dropped=dropped, notes=tuple(notes))
    return build_trace(rows, skip_invalid=reading.skip_invalid)


def _first_exchange(entry: Any) -> tuple[str, str] | None:
    """The first two turns of a conversation, as the serving benchmarks take them."""
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or len(turns) < 2:
        return None
    values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
    first, second = values
    return (first, second) if type(first) is str and type(second) is str else None
