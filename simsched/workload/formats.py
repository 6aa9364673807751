"""Reading any trace: our rows, and the public formats (`docs/traces.md` has a card for each).

First the file is unpacked and parsed by what it holds (JSON Lines, JSON, CSV, Parquet), then its columns say
whose format it is:

- a request a row (`shapes`): `jsonl`, `table`, `mooncake`, `azure`, `burstgpt`, `bailian`, `vidur`,
  `llmservingsim`;
- a conversation in text (`conversations`): `sharegpt`, `lmsys-chat`, `wildchat`;
- a session of calls (`agentic`);
- a benchmark's result (`bench`): `vllm-bench`, `sglang-bench`, `aiperf`, `guidellm`, `inference-perf`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simsched.errors import InputError
from simsched.text.specs import check_parameters, number, parse_spec
from simsched.text.table import counted
from simsched.workload.agentic import is_agentic, read_agentic
from simsched.workload.bench import TOOLS, BenchRun, bench_tool, choose_run, read_bench, read_runs
from simsched.workload.conversations import TURNS, conversation_format, read_conversations
from simsched.workload.rows import COLUMNS, Loaded, Reading, estimate_tokens
from simsched.workload.shapes import REQUIRED, SHAPES, read_rows, shape_of
from simsched.workload.table import Table, csv_table, json_documents, json_lines, json_table, parquet_table
from simsched.workload.text_file import read_bytes, text_of
from simsched.workload.trace import Trace
from simsched.workload.units import SECONDS

FORMATS = (*SHAPES, *TURNS, "agentic", *TOOLS)
Values = list[tuple[Any, int]]
"""JSON values, each with the line on which it starts."""


def load_trace(
    path: Path | str,
    *,
    format: str | None = None,
    skip_invalid: bool = False,
    count_tokens: Callable[[str], int] = estimate_tokens,
    time_unit: str | None = None,
    hash_block_size: int | None = None,
    columns: Mapping[str, str] | None = None,
) -> Loaded:
    """Read a trace, packed (gzip, zstd, xz, bzip2) or not.

    Args:
        path: the file.
        format: one of `FORMATS`; None = recognised by its content. Benchmarks take `run`, as in
            `vllm-bench(run=2)`, for files with several.
        skip_invalid: drop and count rows that can't be used, instead of refusing the file.
        count_tokens: tokens of a text, for formats that hold text; by default one for each 4 characters.
        time_unit: `s`, `ms`, `us` or `ns`: of the time stamps; None = as the format says.
        hash_block_size: tokens that one hash id stands for; None = as the rows or the format say.
        columns: our column -> the file's column that fills it.

    Returns:
        The trace (its `notes` say what was taken for what), and how many rows were dropped or sorted, as
        `{"dropped: invalid score": 2}`.

    Raises:
        InputError: names the file, the line and the value, and says what was expected.
    """
    path = Path(path)
    name, run = _demanded(format)
    if time_unit not in (None, *SECONDS):
        raise InputError(f"--time-unit {time_unit}: expected one of {', '.join(SECONDS)}")
    if hash_block_size is not None and hash_block_size < 1:
        raise InputError(f"--hash-block-size {hash_block_size}: expected a number of tokens, at least 1")
    for ours, theirs in (columns or {}).items():
        if ours not in COLUMNS:
            raise InputError(f"--columns {ours}={theirs}: expected one of {', '.join(COLUMNS)}")
    reading = Reading(
        skip_invalid, count_tokens, time_unit, hash_block_size, dict(columns or {}), run, name is not None
    )
    content = _content(path, read_bytes(path), skip_invalid)
    if not isinstance(content, Table):
        tool = name or _tool(content)
        if tool in TOOLS:
            _no_units(path, tool, reading)
            return read_runs(path, content, tool, reading)
        content = _table_of(path, content)
    name = name or _recognise(content, reading.columns)
    if name in TOOLS:
        raise InputError(f"{path}: expected a result of {name}, found a table")
    if name in SHAPES:
        return read_rows(content, name, reading)
    if name in TURNS:
        return read_conversations(content, name, reading)
    return read_agentic(content, name, reading)


def load_bench(path: Path | str, *, format: str | None = None) -> tuple[str, list[BenchRun]]:
    """The benchmark that wrote a result file, and its runs, with what was measured of each request.

    Raises:
        InputError: not the result file of a benchmark that is known.
    """
    path = Path(path)
    name, run = _demanded(format)
    content = _content(path, read_bytes(path), skip_invalid=False)
    tool = name or (None if isinstance(content, Table) else _tool(content))
    if isinstance(content, Table) or tool not in TOOLS:
        raise InputError(
            f"{path}: expected a result file of {', '.join(TOOLS)}, with what was measured of each request "
            "(of vllm bench: --save-detailed)"
        )
    runs = read_bench(path, content, tool)
    return tool, runs if run is None else [choose_run(path, runs, run, tool)]


def row_notes(trace: Trace, counts: dict[str, int]) -> list[str]:
    """What `load_trace` dropped and sorted, a line each, with the number of rows that there were."""
    rows = len(trace) + sum(count for reason, count in counts.items() if reason.startswith("dropped"))
    return [
        f"{trace.name}: {count:,} of {counted(rows, 'row')} {reason}"
        for reason, count in counts.items()
        if count
    ]


def _demanded(format: str | None) -> tuple[str | None, int | None]:
    """The name and the run of `--format`."""
    if format is None:
        return None, None
    name, given = parse_spec(format, "--format")
    if name not in FORMATS:
        raise InputError(f"--format {name}: expected one of {', '.join(FORMATS)}")
    check_parameters("--format", name, given, ("run",) if name in TOOLS else ())
    if "run" not in given:
        return name, None
    run = number("--format", name, "run", given["run"], 1, 1e6)
    if run != int(run):
        raise InputError(f"--format {name}: run={run}: expected a whole number")
    return name, int(run)


def _no_units(path: Path, tool: str, reading: Reading) -> None:
    for option, given in (
        ("--time-unit", reading.time_unit),
        ("--hash-block-size", reading.hash_block_size),
        ("--columns", reading.columns or None),
    ):
        if given is not None:
            raise InputError(f"{option}: {path} is a result of {tool}, whose units and columns are known")


def _content(path: Path, data: bytes, skip_invalid: bool) -> Table | Values:
    """The rows of a table, or JSON values."""
    if data[:4] == b"PAR1":
        table = parquet_table(path, data)
        if not len(table):
            raise InputError(f"{path}: expected at least one request, found none")
        return table
    text = text_of(path, data)
    start = text.lstrip("\ufeff \t\r\n")
    if not start:
        raise InputError(f"{path}: expected at least one request, found an empty file")
    if start[0] not in "{[" and not _named_json_lines(path):
        table = csv_table(path, text, skip_invalid=skip_invalid)
        if not len(table) and shape_of(table.names) is not None:
            raise InputError(f"{path}: expected at least one request, found none")
        return table
    if _is_lines(path, start):
        objects, lines, dropped = json_lines(path, text, skip_invalid=skip_invalid)
        if objects and bench_tool(objects[0]) is not None:
            return list(zip(objects, lines, strict=True))
        return json_table(path, objects, lines, "line", dropped)
    return json_documents(path, text)


def _named_json_lines(path: Path) -> bool:
    return ".jsonl" in path.suffixes


def _is_lines(path: Path, start: str) -> bool:
    """Is each line an object of its own? A damaged first line counts as one if the next one is an object."""
    first, _, rest = start.partition("\n")
    if _is_object(first):
        return True
    second = rest.lstrip().partition("\n")[0]
    return _is_object(second) or (_named_json_lines(path) and not _is_list(start))


def _is_object(line: str) -> bool:
    try:
        return type(json.loads(line)) is dict
    except (ValueError, RecursionError):
        return False


def _is_list(text: str) -> bool:
    try:
        return text[0] == "[" and type(json.loads(text)[0]) is dict
    except (ValueError, IndexError, RecursionError):
        return False


def _tool(values: Values) -> str | None:
    return bench_tool(values[0][0])


def _table_of(path: Path, values: Values) -> Table:
    """JSON documents as rows: a list of objects, or objects one after the other."""
    if len(values) == 1 and isinstance(values[0][0], list):
        items = values[0][0]
        conversations = any(
            isinstance(item, dict) and conversation_format(tuple(item)) is not None for item in items
        )
        unit = "conversation" if conversations else "row"
        numbered = [(item, at) for at, item in enumerate(items, start=1)]
    else:
        conversations, unit, numbered = False, "line", values
    if not numbered:
        raise InputError(f"{path}: expected at least one request, found an empty list")
    for item, at in numbered:
        if not isinstance(item, dict) and not conversations:
            place = f"{path}:{at}" if unit == "line" else f"{path}, {unit} {at}"
            raise InputError(f"{place}: expected a JSON object, one for each request")
    objects = [item if isinstance(item, dict) else {} for item, _ in numbered]
    return json_table(path, objects, [at for _, at in numbered], unit, Counter())


def _recognise(table: Table, columns: Mapping[str, str]) -> str:
    """The format of a table with these columns."""
    conversations = conversation_format(table.names)
    if conversations is not None:
        return conversations
    if is_agentic(table.names):
        return "agentic"
    ours = {theirs: ours for ours, theirs in columns.items()}
    shape = shape_of([ours.get(name, name) for name in table.names])
    if shape == "jsonl" and not (table.typed and table.unit == "line"):
        return "table"
    if shape is not None:
        return shape
    if table.typed and table.unit == "line":
        return "jsonl"  # whose check says which key is missing where
    shown = ", ".join(sorted(table.names))[:60]
    place = f"{table.path}:1" if table.unit == "line" else f"{table.path}"
    raise InputError(
        f"{place}: {shown!r}: expected JSON Lines, or columns {', '.join(REQUIRED)}; --columns of "
        "`trace convert` says which are they"
    )
