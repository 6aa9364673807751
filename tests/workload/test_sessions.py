"""Rows that wait for answers: read, written, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.workload.formats import load_trace
from simsched.workload.sessions import waits_for
from simsched.workload.stats import describe
from simsched.workload.trace_io import write_trace
from simsched.workload.window import Window, cut

ROWS = [
    {"session_id": "a", "timestamp": 1.0},
    {"session_id": "b", "timestamp": 2.5, "request_id": "b0"},
    {"session_id": "a", "think_time": 3},
    {"think_time": 0.5, "parent": ["b0", "2"]},
]


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "t.jsonl"
    full = [
        {"request_id": str(place), "input_length": 12, "output_length": 4, **row}
        for place, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in full))
    return path


def test_read_and_written_alike(tmp_path: Path) -> None:
    trace, counts = load_trace(write(tmp_path, list(ROWS)))
    assert not counts
    assert trace.arrival_time.tolist() == [1.0, 2.5, 2.5, 2.5]
    assert trace.think_times is not None
    np.testing.assert_array_equal(trace.think_times, [np.nan, np.nan, 3.0, 0.5])
    assert waits_for(trace) == [(), (), (0,), (1, 2)]
    write_trace(trace, tmp_path / "u.jsonl")
    again, _ = load_trace(tmp_path / "u.jsonl")
    np.testing.assert_array_equal(again.think_times, trace.think_times)
    assert waits_for(again) == waits_for(trace)
    written = [json.loads(line) for line in (tmp_path / "u.jsonl").read_text().splitlines()]
    assert [row.get("timestamp") for row in written] == [1.0, 2.5, None, None]


def test_it_has_no_rate(tmp_path: Path) -> None:
    assert describe(load_trace(write(tmp_path, list(ROWS)))[0])["request_rate"] is None


def test_a_window_holds_sessions_from_their_first_turn(tmp_path: Path) -> None:
    trace, _ = load_trace(write(tmp_path, list(ROWS)))
    assert cut(trace, Window(2.0, 9.0)).request_ids() == ["b0"]  # the others wait for a's first turn


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"session_id": "c", "think_time": 1}, ":5: think_time 1: expected a timestamp: it has no parent"),
        ({"think_time": 1}, ":5: think_time 1: expected a timestamp"),
        ({"session_id": "a", "think_time": -1}, ":5: think_time -1: expected seconds, at least 0"),
        ({"session_id": "a", "think_time": "x"}, ":5: think_time 'x': expected seconds"),
        ({"session_id": "a"}, ":5: timestamp missing: expected seconds"),
        ({"session_id": "a", "timestamp": 9, "think_time": 1}, ":5: think_time 1: expected no timestamp"),
        (
            {"parent": "zz", "think_time": 1},
            "parent 'zz' of request 4: expected the request_id of a row above",
        ),
        ({"parent": "4", "think_time": 1}, "parent '4' of request 4: expected the request_id of a row above"),
    ],
)
def test_bad_rows_are_one_line(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = write(tmp_path, [*ROWS, row])
    with pytest.raises(InputError) as error:
        load_trace(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    trace, _ = load_trace(path, skip_invalid=True)
    assert len(trace) == 4


def test_who_waits_for_a_dropped_first_turn_is_dropped_with_it(tmp_path: Path) -> None:
    path = write(
        tmp_path, [{"session_id": "a", "timestamp": -1}, {"session_id": "b", "timestamp": 0}, ROWS[2]]
    )
    trace, counts = load_trace(path, skip_invalid=True)
    assert trace.request_ids() == ["1"]
    assert counts == {"dropped: invalid timestamp": 1, "dropped: invalid think_time": 1}
