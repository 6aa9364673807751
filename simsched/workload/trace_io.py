"""Our trace format: JSON Lines, one request a line.

`{"timestamp": 0.0, "input_length": 12, "output_length": 40}`, with seconds and tokens, and optionally
`request_id`, `score` (lower = expected shorter), `predicted_class` (0 = shortest), `predicted_length`
(tokens), `priority` (lower first), `tenant`, `hash_ids` (equal ids, equal prefix; `hash_block_size` tokens
each) and `prompt`. An optional column is given in all lines or in none.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.files import atomic_file
from simsched.workload.rows import COLUMNS, Loaded, Reading, Rows, build_trace
from simsched.workload.trace import Trace


def read_lines(path: Path, text: str, reading: Reading) -> Loaded:
    """The trace of our JSON Lines; `simsched.workload.rows.build_trace` says what is refused or counted."""
    objects, lines, dropped = parse_lines(path, text, skip_invalid=reading.skip_invalid)
    keys = {key for row in objects for key in row}
    columns = {name: [row.get(name) for row in objects] for name in COLUMNS if name in keys}
    size = objects[0].get("hash_block_size") if objects else None
    if size is not None and (type(size) is not int or size < 1):
        raise InputError(f"{path}:{lines[0]}: hash_block_size {size!r}: expected a whole number of tokens")
    unread = ", ".join(sorted(keys - {*COLUMNS, "hash_block_size"}))
    notes = (f"{path.name}: keys that nothing reads: {unread[:200]}",) if unread else ()
    rows = Rows(path, columns, lines, dropped=dropped, notes=notes)
    return build_trace(rows, skip_invalid=reading.skip_invalid, hash_block_size=size)


def parse_lines(
    path: Path, text: str, *, skip_invalid: bool
) -> tuple[list[dict[str, Any]], list[int], Counter[str]]:
    """The objects of a JSON Lines text, their line numbers, and the lines dropped, by reason."""
    objects: list[dict[str, Any]] = []
    lines: list[int] = []
    dropped: Counter[str] = Counter()
    decode = json.JSONDecoder().raw_decode  # half the time of json.loads
    for number, padded in enumerate(text.split("\n"), start=1):
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


def read_bytes(path: Path) -> bytes:
    """A file's content, unzipped if it is gzipped.

    Raises:
        InputError: missing, unreadable or truncated.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise InputError(f"{path}: expected a trace file, found a folder") from None
    except OSError as error:
        raise InputError(f"{str(path)[:200]}: cannot read it: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{str(path)!r}: not the name of a file") from None
    if data[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise InputError(f"{path}: a damaged or truncated gzip file") from None
    return data


def text_of(path: Path, data: bytes) -> str:
    """A file's content as text.

    Raises:
        InputError: it is binary.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text, found a binary byte at {error.start}") from None
    if "\x00" in text:
        raise InputError(f"{path}: expected text, found a binary byte at {text.index(chr(0))}")
    return text


def write_trace(trace: Trace, path: Path | str) -> None:
    """Write our JSON Lines, whole or not at all. A closed loop's users are not part of the format.

    Raises:
        InputError: the file can't be written.
    """
    columns: dict[str, list[Any]] = {}
    if trace.request_id is not None:
        columns["request_id"] = list(trace.request_id)
    columns["timestamp"] = trace.arrival_time.tolist()
    columns["input_length"] = trace.num_prompt_tokens.tolist()
    columns["output_length"] = trace.num_output_tokens.tolist()
    for name in ("score", "predicted_class", "predicted_length", "priority"):
        if (values := getattr(trace, name)) is not None:
            columns[name] = values.tolist()
    for name in ("tenant", "prompt"):
        if (texts := getattr(trace, name)) is not None:
            columns[name] = list(texts)
    if trace.hash_ids is not None:
        columns["hash_ids"] = [list(ids) for ids in trace.hash_ids]
        columns["hash_block_size"] = [trace.hash_block_size] * len(trace)
    names = list(columns)
    with atomic_file(Path(path)) as file:
        for row in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False).encode() + b"\n")


def _excerpt(line: str) -> str:
    return repr(line if len(line) <= 40 else line[:37] + "...")
