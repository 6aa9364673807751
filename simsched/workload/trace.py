"""A workload as columns, one entry a request, in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SLOS = ("slo_ttft", "slo_tpot", "deadline")
"""What a request may ask for, in seconds."""


@dataclass(frozen=True)
class Trace:
    """Requests as columns of equal length n, sorted by `arrival_time` (stable)."""

    arrival_time: FloatArray
    """Seconds, from the start of the run; never decreasing. Of a turn that waits for answers (`think_times`)
    only its place counts: it has the time of the last row above it that has its own."""
    num_prompt_tokens: IntArray
    num_output_tokens: IntArray
    """True output lengths, at least 1. Policies never see them."""
    request_id: Sequence[str] | None = None
    """None: the index as a string (`request_ids()`)."""
    score: FloatArray | None = None
    predicted_class: IntArray | None = None
    predicted_length: FloatArray | None = None
    length_quantiles: FloatArray | None = None
    """Shape (n, m): for each request m rising output lengths, each as probable as any other."""
    priority: IntArray | None = None
    tenant: Sequence[str] | None = None
    session_id: Sequence[str | None] | None = None
    """The conversation that a request is a turn of; None: of none."""
    parent: Sequence[tuple[str, ...]] | None = None
    """Request ids of the turns that a request follows, the one that its prompt goes on from first; empty: the
    session's previous turn."""
    history_length: IntArray | None = None
    """How many tokens of its first parent's prompt and answer a prompt begins with; -1: all of them."""
    think_times: FloatArray | None = None
    """Seconds between the last answer that a turn waits for (`sessions.waits_for`) and its arrival; NaN: it
    waits for none, and arrives at its `arrival_time`."""
    request_class: Sequence[str | None] | None = None
    """What kind of request it is (the key `class`)."""
    slo_ttft: FloatArray | None = None
    """Seconds from arrival to the first token that are asked of a request; NaN: nothing is."""
    slo_tpot: FloatArray | None = None
    """Likewise, seconds a further token."""
    deadline: FloatArray | None = None
    """Likewise, seconds from arrival to the end of its answer."""
    hash_ids: Sequence[tuple[int, ...]] | None = None
    """Identity of each prefix chunk (`hash_block_size` tokens) of the prompt: equal ids, equal prefix."""
    hash_block_size: int | None = None
    prompt: Sequence[str] | None = None
    name: str = "trace"
    closed_loop_users: int | None = None
    """Set: arrivals are made by this many users, each sending its next request when the last one is done."""
    think_time: float = 0.0
    """Seconds between a finished answer and the same user's next request (closed loop)."""
    meta: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What was guessed when it was read: lines for people."""

    def __len__(self) -> int:
        return len(self.arrival_time)

    def request_ids(self) -> list[str]:
        """The ids, made from the index where the trace has none."""
        if self.request_id is not None:
            return list(self.request_id)
        return [str(i) for i in range(len(self))]

    def columns(self) -> list[str]:
        """The names of the columns that are there."""
        always = ("arrival_time", "num_prompt_tokens", "num_output_tokens")
        return [*always, *(name for name in _OPTIONAL if getattr(self, name) is not None)]

    def with_columns(self, **columns: Any) -> Trace:
        """A copy with these columns replaced."""
        return replace(self, **columns)

    def take(self, rows: IntArray) -> Trace:
        """The requests at these indices (rising), which keep their ids."""
        columns: dict[str, Any] = {}
        for name in ("arrival_time", "num_prompt_tokens", "num_output_tokens", *_OPTIONAL):
            values = getattr(self, name)
            if isinstance(values, np.ndarray):
                columns[name] = values[rows]
            elif values is not None:
                columns[name] = [values[i] for i in rows.tolist()]
        if self.request_id is None and len(rows) and rows[-1] != len(rows) - 1:
            columns["request_id"] = [str(i) for i in rows.tolist()]
        return replace(self, **columns)


_OPTIONAL = (
    *("request_id", "score", "predicted_class", "predicted_length", "length_quantiles"),
    *("priority", "tenant", "session_id", "parent", "history_length", "request_class"),
    *("think_times", *SLOS),
    *("hash_ids", "prompt"),
)
