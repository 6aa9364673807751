"""Reader of agentic traces: sessions that nest turns, which nest the calls of a model.

A row is a session with `turns`, each with `llm_calls` (`message_id`, `timestamp`, `tokens.prompt`,
`tokens.completion`, `tokens.cached`), or a session with `requests` (`start_ms`, `provider_tokens.prompt`,
`provider_tokens.completion`). Every call is a request; its prompt goes on from the session's call before it.
"""

from __future__ import annotations

from typing import Any

from simsched.errors import InputError
from simsched.workload.rows import Loaded, Reading, Rows, build_trace, from_zero
from simsched.workload.table import Table
from simsched.workload.units import date_nanoseconds, in_seconds


def is_agentic(names: tuple[str, ...]) -> bool:
    """Do rows with these columns hold sessions of calls?"""
    return "session_id" in names and ("turns" in names or "requests" in names)


def read_agentic(table: Table, name: str, reading: Reading) -> Loaded:
    """Every call of every session, at its own time, counted from the first.

    A prompt that is shorter than the prompt and answer before it has been compacted: it then begins with as
    many of their tokens as the provider found in its cache.

    Raises:
        InputError: a session without calls, or a call without time or tokens.
    """
    columns: dict[str, list[Any]] = {
        each: []
        for each in (
            *("timestamp", "input_length", "output_length", "request_id"),
            *("session_id", "history_length", "class"),
        )
    }
    lines: list[int] = []
    nested = "turns" in table.names
    sessions = table.column("session_id")
    for row, outer in enumerate(table.column("turns" if nested else "requests")):
        session = str(sessions[row]) if sessions[row] is not None else f"row {row + 1}"
        before = 0
        calls = _calls(outer, nested)
        if not calls:
            raise InputError(f"{table.where(row)}: expected calls in session {session}")
        for label, call in calls:
            tokens = call.get("tokens", call.get("provider_tokens"))
            tokens = tokens if isinstance(tokens, dict) else {}
            prompt, answer, cached = (tokens.get(key) for key in ("prompt", "completion", "cached"))
            columns["timestamp"].append(_time(call))
            columns["input_length"].append(prompt)
            columns["output_length"].append(answer)
            columns["request_id"].append(f"{session}/{label}")
            columns["session_id"].append(session)
            columns["class"].append(call.get("initiator_type", call.get("step_trigger")))
            history = None
            if type(prompt) is int and type(cached) is int and before > prompt >= cached:
                history = min(cached, before)
            columns["history_length"].append(history)
            lines.append(table.lines[row])
            if type(prompt) is type(answer) is int:
                before = prompt + answer
    columns["timestamp"] = in_seconds(columns["timestamp"], "ns")
    said = "timestamp is a date" if nested else "start_ms in milliseconds"
    note = f"{table.path.name}: read as {name}: a request for each call of each session; {said}"
    rows = Rows(
        table.path, columns, lines, unit=table.unit, dropped=table.dropped, notes=(note,),
        expected={"timestamp": "a date such as 2026-06-01T00:00:00.500Z"} if nested else {},
    )  # fmt: skip
    return from_zero(build_trace(rows, skip_invalid=reading.skip_invalid, sort=True, unknown_parents=True))


def _calls(outer: Any, nested: bool) -> list[tuple[str, dict[str, Any]]]:
    """The calls of a session, each with a label that no other of it has."""
    if not isinstance(outer, list):
        return []
    if not nested:
        return [(str(place), call) for place, call in enumerate(outer) if isinstance(call, dict)]
    found = []
    for at, turn in enumerate(outer):
        calls = turn.get("llm_calls") if isinstance(turn, dict) else None
        if not isinstance(calls, list):
            return []
        label = str(turn.get("turn_id", at))
        found += [
            (f"{label}/{call.get('message_id', place)}", call)
            for place, call in enumerate(calls)
            if isinstance(call, dict)
        ]
    return found


def _time(call: dict[str, Any]) -> Any:
    """Nanoseconds; what is no time is left as it was."""
    if "timestamp" not in call:
        start = call.get("start_ms")
        return start * 10**6 if type(start) is int else start
    value = call["timestamp"]
    # a number has no unit here, so as text it is refused
    return date_nanoseconds([value if value is None else str(value)])[0]
