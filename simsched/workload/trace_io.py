"""Writing our trace format: JSON Lines, one request a line.

`{"timestamp": 0.0, "input_length": 12, "output_length": 40}`, with seconds and tokens, and optionally
`request_id`, `score` (lower = expected shorter), `predicted_class` (0 = shortest), `predicted_length`
(tokens), `length_quantiles` (equally probable lengths, rising), `priority` (lower first), `tenant`,
`session_id`, `parent`, `history_length`, `class`, `slo_ttft`, `slo_tpot` and `deadline` (seconds from
arrival), `think_time` (seconds, in place of `timestamp`), `hash_ids` (equal ids, equal prefix;
`hash_block_size` tokens each) and `prompt`; `docs/traces.md` says what they mean.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from simsched.files import atomic_file
from simsched.workload.trace import SLOS, Trace


def write_trace(trace: Trace, path: Path | str) -> None:
    """Write our JSON Lines, whole or not at all. A closed loop's users are not part of the format.

    Raises:
        InputError: the file can't be written.
    """
    columns: dict[str, list[Any]] = {}
    if trace.request_id is not None:
        columns["request_id"] = list(trace.request_id)
    columns["timestamp"] = times = trace.arrival_time.tolist()
    if trace.think_times is not None:
        thinks = [None if math.isnan(each) else each for each in trace.think_times.tolist()]
        columns["timestamp"] = [
            time if think is None else None for time, think in zip(times, thinks, strict=True)
        ]
        columns["think_time"] = thinks
    columns["input_length"] = trace.num_prompt_tokens.tolist()
    columns["output_length"] = trace.num_output_tokens.tolist()
    for name in ("score", "predicted_class", "predicted_length", "length_quantiles", "priority"):
        if (values := getattr(trace, name)) is not None:
            columns[name] = values.tolist()
    for name in SLOS:
        if (seconds := getattr(trace, name)) is not None:
            columns[name] = [None if math.isnan(each) else each for each in seconds.tolist()]
    for name in ("tenant", "session_id", "prompt"):
        if (texts := getattr(trace, name)) is not None:
            columns[name] = list(texts)
    if trace.request_class is not None:
        columns["class"] = list(trace.request_class)
    if trace.parent is not None:
        columns["parent"] = [list(parents) or None for parents in trace.parent]
    if trace.history_length is not None:
        columns["history_length"] = [None if known < 0 else known for known in trace.history_length.tolist()]
    if trace.hash_ids is not None:
        columns["hash_ids"] = [list(ids) for ids in trace.hash_ids]
        columns["hash_block_size"] = [trace.hash_block_size] * len(trace)
    names = list(columns)
    with atomic_file(Path(path)) as file:
        for row in zip(*columns.values(), strict=True):
            given = {name: value for name, value in zip(names, row, strict=True) if value is not None}
            file.write(json.dumps(given, ensure_ascii=False).encode() + b"\n")
