"""A timeline in the Trace Event Format, which chrome://tracing and ui.perfetto.dev open."""

from __future__ import annotations

from typing import Any

from simsched.timeline.intervals import Timeline

_REQUESTS, _ENGINE = 1, 2  # "processes" of the trace
_US = 1e6


def chrome_trace(timeline: Timeline) -> dict[str, Any]:
    """A JSON object: a track for each request, one for the steps, and counters of the batch.

    Format: "Trace Event Format" (Google), complete events (X), counters (C) and metadata (M), microseconds.
    """
    events: list[dict[str, Any]] = [
        _named("process_name", _REQUESTS, 0, "requests"),
        _named("process_name", _ENGINE, 0, "engine"),
        _named("thread_name", _ENGINE, 1, "steps"),
    ]
    for track, life in enumerate(timeline.requests, start=1):
        events.append(_named("thread_name", _REQUESTS, track, f"request {life.request_id}"))
        for part in life.intervals:
            args: dict[str, Any] = {
                "tokens": part.tokens,
                "steps": part.steps,
                "prompt": life.num_prompt_tokens,
            }
            events.append(_complete(part.kind, _REQUESTS, track, part.start, part.end, args))
    for step in timeline.steps:
        args = {"requests": step.num_requests, "tokens": step.num_tokens, "preempted": list(step.preempted)}
        name = f"{step.num_requests} requests, {step.num_tokens} tokens"
        events.append(_complete(name, _ENGINE, 1, step.start, step.end, args))
        for counter, value in (
            ("running", step.num_running),
            ("waiting", step.num_waiting),
            ("KV blocks", step.kv_blocks_used),
        ):
            events.append(
                {"name": counter, "ph": "C", "pid": _ENGINE, "ts": step.start * _US, "args": {counter: value}}
            )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}


def _complete(
    name: str, process: int, thread: int, start: float, end: float, args: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name, "ph": "X", "pid": process, "tid": thread,
        "ts": start * _US, "dur": (end - start) * _US, "args": args,
    }  # fmt: skip
