"""The intervals of a request's life, from a step log: queued, prefill, decode, preempted, ..."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simsched.errors import InputError

if TYPE_CHECKING:
    import polars as pl

KINDS = ("queued", "prefill", "decode", "preempted", "recompute", "waiting")
"""`recompute`: prefill of what a preemption has taken; `waiting`: admitted, and not in this step's batch."""


@dataclass
class Interval:
    """A stretch of one kind."""

    kind: str
    start: float
    """Seconds on the run's clock."""
    end: float
    tokens: int = 0
    """Scheduled in it."""
    steps: int = 0


@dataclass
class RequestTimeline:
    """One request's life."""

    request_id: str
    arrival: float
    num_prompt_tokens: int
    num_output_tokens: int
    intervals: list[Interval] = field(default_factory=list)

    def add(self, kind: str, start: float, end: float, tokens: int = 0) -> None:
        """Append a stretch, or lengthen the last one if it is of this kind and ends where this begins.

        Chunks of a prompt stay apart.
        """
        if end <= start:
            return
        last = self.intervals[-1] if self.intervals else None
        whole = kind not in ("prefill", "recompute")
        if last is not None and whole and last.kind == kind and last.end == start:
            last.end = end
            last.tokens += tokens
            last.steps += tokens > 0
        else:
            self.intervals.append(Interval(kind, start, end, tokens, int(tokens > 0)))


@dataclass(frozen=True)
class StepRow:
    """A step's batch."""

    start: float
    end: float
    num_requests: int
    num_tokens: int
    num_running: int
    num_waiting: int
    kv_blocks_used: int
    preempted: tuple[str, ...]


@dataclass
class Timeline:
    """Some requests of a run, and its steps."""

    requests: list[RequestTimeline]
    """By arrival."""
    steps: list[StepRow]


def timeline_of(
    requests: pl.DataFrame, steps: Iterable[Mapping[str, Any]], only: Collection[str] | None = None
) -> Timeline:
    """The timelines of a cell's requests.

    Args:
        requests: rows of requests.parquet.
        steps: its step log.
        only: ids of the requests that are wanted; None: all.

    Raises:
        InputError: an id that is not there, or a damaged log.
    """
    rows = {row["request_id"]: row for row in requests.iter_rows(named=True)}
    wanted = list(rows) if only is None else list(only)
    for name in wanted:
        if name not in rows:
            raise InputError(f"--request {name}: no such request; the first are {', '.join(list(rows)[:5])}")
    lives = {
        name: RequestTimeline(
            name,
            rows[name]["arrival_time"],
            rows[name]["num_prompt_tokens"],
            rows[name]["num_output_tokens"],
        )
        for name in wanted
    }
    ends = {name: life.arrival for name, life in lives.items()}
    idle = dict.fromkeys(lives, "queued")  # what a request is while no step has it
    batches = []
    try:
        for step in steps:
            start, end = step["time"], step["time"] + step["step_time"]
            for name in step["preempted"]:
                if name in lives:
                    lives[name].add(idle[name], ends[name], start)
                    ends[name] = max(start, ends[name])
                    idle[name] = "preempted"
            for name, tokens in step["scheduled"].items():
                if name not in lives:
                    continue
                life, first = lives[name], rows[name]["first_token_time"]
                life.add(idle[name], ends[name], start)
                if first is None or end <= first + 1e-9:
                    kind = "prefill"
                else:
                    kind = "decode" if tokens == 1 else "recompute"
                life.add(kind, start, end, tokens)
                ends[name], idle[name] = end, "waiting"
            batches.append(
                StepRow(
                    start, end, len(step["scheduled"]), sum(step["scheduled"].values()),
                    step["num_running"], step["num_waiting"], step["kv_blocks_used"],
                    tuple(step["preempted"]),
                )
            )  # fmt: skip
    except (KeyError, TypeError, AttributeError):
        raise InputError("a damaged step log: expected time, step_time, scheduled, preempted, ...") from None
    return Timeline(sorted(lives.values(), key=lambda life: life.arrival), batches)
