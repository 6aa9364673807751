"""Readers of conversations in text: ShareGPT, LMSYS-Chat-1M, WildChat.

Of each conversation the first human turn that is answered is taken, and the answer to it; a system turn
before it counts to the prompt. Whoever speaks is known by the turn's role, not by its place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from simsched.errors import InputError
from simsched.workload.rows import (
    AT_ONCE,
    CHARACTERS_PER_TOKEN,
    Loaded,
    Reading,
    Rows,
    build_trace,
    estimate_tokens,
    from_zero,
)
from simsched.workload.table import Table
from simsched.workload.units import dates_in, take_times

TURNS = {
    "sharegpt": ("conversations", "items"),
    "lmsys-chat": ("conversation",),
    "wildchat": ("conversation",),
}
"""Of each format the column that holds the turns."""
_HUMAN = {"human", "user"}
_MODEL = {"gpt", "assistant", "chatgpt", "bing", "bard", "model", "function_call"}
_SYSTEM = {"system", "developer"}


def conversation_format(names: tuple[str, ...]) -> str | None:
    """The format of rows with these columns, if they are conversations."""
    if any(name in names for name in TURNS["sharegpt"]):
        return "sharegpt"
    if "conversation" not in names:
        return None
    return "wildchat" if "conversation_hash" in names or "timestamp" in names else "lmsys-chat"


def read_conversations(table: Table, name: str, reading: Reading) -> Loaded:
    """The first question and answer of each conversation.

    WildChat's rows arrive at their `timestamp`, sorted and counted from the first; the other formats have no
    times, so all requests are there at 0. Tokens are counted by `reading.count_tokens`.

    Raises:
        InputError: a conversation without question and answer.
    """
    column = next((each for each in TURNS[name] if each in table.names), None)
    if column is None:
        raise InputError(f"{table.path}: expected conversations, in a column {TURNS[name][0]}")
    turns = table.column(column)
    dropped = Counter(table.dropped)
    kept: list[int] = []
    columns: dict[str, list[Any]] = {each: [] for each in ("input_length", "output_length", "prompt")}
    for row, entry in enumerate(turns):
        found = first_exchange(entry)
        if found is None:
            if not reading.skip_invalid:
                raise InputError(
                    f"{table.where(row)}: expected a question and an answer in `{column}`; --skip-invalid "
                    "drops such rows"
                )
            dropped["dropped: no question and answer"] += 1
            continue
        prompt, answer = found
        columns["input_length"].append(reading.count_tokens(prompt))
        columns["output_length"].append(reading.count_tokens(answer))
        columns["prompt"].append(prompt)
        kept.append(row)
    file = table.path.name
    timed = name == "wildchat" and "timestamp" in table.names
    if timed:
        times, said = _times(table, reading)
        columns["timestamp"] = [times[row] for row in kept]
    else:
        columns["timestamp"] = [0.0] * len(kept)
        said = f"conversations have no times: {AT_ONCE}"
    notes = [f"{file}: read as {name}: the first question of each conversation, and its answer; {said}"]
    if reading.count_tokens is estimate_tokens:
        notes.append(
            f"{file}: lengths are estimates, a token for every {CHARACTERS_PER_TOKEN} characters; "
            "trace convert --tokenizer counts them"
        )
    unread = [each for each in table.names if each not in (column, "timestamp" if timed else "")]
    if unread:
        notes.append(f"{file}: columns that nothing reads: {', '.join(unread)[:200]}")
    lines = [table.lines[row] for row in kept]
    rows = Rows(table.path, columns, lines, unit=table.unit, dropped=dropped, notes=tuple(notes))
    return from_zero(build_trace(rows, skip_invalid=reading.skip_invalid, sort=True))


def _times(table: Table, reading: Reading) -> tuple[list[Any], str]:
    values = table.column("timestamp")
    known = table.time_units.get("timestamp")
    if known is None and not dates_in(values) and reading.time_unit is None:
        raise InputError(
            f"{table.path}: timestamp {values[0]!r}: expected a date; --time-unit says the unit of numbers"
        )
    times = take_times(table, "timestamp", values, given=reading.time_unit, known=known)
    return times.seconds, times.said


def first_exchange(turns: Any) -> tuple[str, str] | None:
    """The first question that is answered, after what a system turn says, and its answer; None: there is
    none. Turns without a role are a question and an answer in turn."""
    if isinstance(turns, np.ndarray):
        turns = turns.tolist()
    if not isinstance(turns, list):
        return None
    spoken = [_spoken(turn, place) for place, turn in enumerate(turns)]
    system = ""
    for place, one in enumerate(spoken):
        if one is None:
            return None
        role, text = one
        if role == "system":
            system += text + "\n\n"
        if role != "human" or place + 1 == len(spoken):
            continue
        following = spoken[place + 1]
        if following is not None and following[0] == "model":
            return system + text, following[1]
    return None


def _spoken(turn: Any, place: int) -> tuple[str, str] | None:
    """Who speaks in a turn (human, model, system, other), and what; None: no turn."""
    if not isinstance(turn, dict):
        return None
    text = turn.get("value", turn.get("content"))
    if isinstance(text, list):  # parts, as in the chat API
        parts = [part.get("text") for part in text if isinstance(part, dict)]
        text = "".join(part for part in parts if isinstance(part, str))
    if not isinstance(text, str):
        return None
    role = turn.get("from", turn.get("role"))
    if role is None:
        return ("human", "model")[place % 2], text
    kind = str(role).strip().lower()
    for name, words in (("human", _HUMAN), ("model", _MODEL), ("system", _SYSTEM)):
        if kind in words:
            return name, text
    return "other", text
