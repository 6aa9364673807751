"""One JSON line per step of the real engine, in the schema of the simulator's `steps/*.jsonl`.

Beside the simulator's columns: `exec_time` (s; from the end of scheduling to the engine's having the tokens),
`end` (when it had them), the cost model's features P, N, S, K, Q, and `arrived`, the requests seen since the
last step with their arrival times. Times are those of the engine's monotonic clock, in seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple


class Chunk(NamedTuple):
    """What one request computes in a step."""

    log_id: str
    tokens: int
    prior: int
    """Its tokens computed before the step, after a prefix hit."""
    is_decode: bool


def features(chunks: Iterable[Chunk]) -> dict[str, float]:
    """P, N, S, K, Q of a batch (see `simsched.cost_model.base`)."""
    P = N = S = K = 0
    Q = 0.0
    for chunk in chunks:
        if chunk.is_decode:
            N += 1
            K += chunk.prior + 1
        else:
            P += chunk.tokens
            S += 1
            Q += chunk.tokens * (chunk.prior + chunk.tokens / 2)
    return {"P": P, "N": N, "S": S, "K": K, "Q": Q}


class StepLog:
    """Writes a line once its step is over. Line-buffered: an engine that dies leaves what it did."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115  # lives as long as the engine
        self._step = 0

    def write(self, start: float, end: float, record: dict[str, Any]) -> None:
        """A step that began at `start` and was over at `end` (s)."""
        self._step += 1
        line = {"step": self._step, "time": start, "step_time": end - start, **record}
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._file.close()
