"""One JSON line per step of the real engine, in the schema of the simulator's `steps/*.jsonl`.

Beside the simulator's columns: `exec_time` (s; from the end of scheduling to the engine's having the tokens),
`end` (when it had them), the cost model's features P, N, S, K, Q; `launch_mode` and `padded_tokens`;
`arrived`, the requests seen since the last step with their arrival times, and `added`, when they were;
`empty_schedules`, when `schedule()` was called since then and formed no batch; and the raw stamps of
`stamps.COLUMNS`. `time` is no earlier than the `end` of the step before, unlike `schedule_begin`
(asynchronous scheduling). Times are those of the engine's monotonic clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

Chunk = tuple[int, int, bool]
"""What a request computes in a step: tokens; those computed before, after a prefix hit; is it a decode?"""


def features(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """P, N, S, K, Q of a batch (see `simsched.cost_model.base`)."""
    P = N = S = K = 0
    Q = 0.0
    for tokens, prior, is_decode in chunks:
        if is_decode:
            N += 1
            K += prior + 1
        else:
            P += tokens
            S += 1
            Q += tokens * (prior + tokens / 2)
    return {"P": P, "N": N, "S": S, "K": K, "Q": Q}


def log_path(path: str, engine: int) -> str:
    """Where the engine of this number writes: of several in one server (`--data-parallel-size`), each behind
    the first adds its number, so that `steps.jsonl` becomes `steps-1.jsonl`."""
    given = Path(path)
    return str(given.with_name(f"{given.stem}-{engine}{given.suffix}")) if engine else path


class EngineStepLog:
    """Writes a line once its step is over. Line by line: an engine that dies leaves what it did."""

    def __init__(self, path: str) -> None:
        import msgspec  # comes with vLLM, and takes a tenth of json's time

        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # lives as long as the engine
        self._encode = msgspec.json.Encoder().encode
        self._step = 0

    def write(self, start: float, end: float, record: dict[str, Any]) -> None:
        """A step that began at `start` and was over at `end` (s)."""
        self._step += 1
        line = {"step": self._step, "time": start, "step_time": end - start, **record}
        self._file.write(self._encode(line) + b"\n")

    def close(self) -> None:
        self._file.close()
