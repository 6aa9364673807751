"""Rows that wait for answers: read, written, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.workload.formats import load_trace
from simsched.workload.sessions import previous_turn, waits_for
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


def test_figures_of_sessions(tmp_path: Path) -> None:
    own = [{"session_id": "c", "timestamp": 3.0}, {"timestamp": 5.0}, {"session_id": "c", "think_time": 10}]
    figures = describe(load_trace(write(tmp_path, [*ROWS, *own]))[0])
    assert figures["request_rate"] is None
    assert "think_time" in figures["columns"]
    sessions = figures["sessions"]
    # a and b are one, since the fourth row waits for both; the one without a session is one by itself
    assert sessions["num_sessions"] == 3
    assert sessions["session_rate"] == pytest.approx(2 / 4)
    assert sessions["turns"]["mean"] == pytest.approx(7 / 3)
    assert sessions["turns"]["max"] == 4
    assert sessions["think_time"]["median"] == 3
    assert sessions["think_time"]["mean"] == pytest.approx(13.5 / 3)
    plain = describe(load_trace(write(tmp_path, [{"timestamp": 0}]))[0])
    assert plain["sessions"] is None


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
            ":5: parent 'zz' of request 4: expected the request_id of a row above it; --skip-invalid drops",
        ),
        ({"parent": "4", "think_time": 1}, ":5: parent '4' of request 4: expected the request_id of a row"),
        (
            {"parent": ["b0", "b0"], "think_time": 1},
            ":5: parent ['b0', 'b0']: expected a request_id, or a list",
        ),
        (
            {"session_id": "a", "timestamp": 9, "history_length": 99999},
            ":5: history_length 99999 of request 4: expected at most 12, of its prompt and its parent's",
        ),
        (
            {"session_id": "a", "think_tme": 2},
            ":5: timestamp missing: expected seconds, at least 0 and at most 1e10 (--time-unit: in another "
            "unit), or think_time (nothing reads think_tme)",
        ),
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
    assert counts == {"dropped: invalid timestamp": 1, "dropped: follows one that was dropped": 1}


S, T = {"session_id": "s"}, {"session_id": "t"}
BAD = {"think_time": -1}
FOLLOWS = "dropped: follows one that was dropped"


@pytest.mark.parametrize(
    ("rows", "kept", "counts"),
    [
        # c waits for b, which is dropped, and must not wait for a instead; d waits for c
        (
            [S | {"timestamp": 0, "request_id": "a"}, S | BAD | {"parent": "a", "request_id": "b"},
             S | {"think_time": 5, "parent": "b", "request_id": "c"}, {"think_time": 1, "parent": "c"}],
            ["a"], {"dropped: invalid think_time": 1, FOLLOWS: 2},
        ),
        # the same without parents: a session's previous turn
        ([S | {"timestamp": 0}, S | BAD, S | {"think_time": 5}, T | {"timestamp": 1}, T | {"think_time": 2}],
         ["0", "3", "4"], {"dropped: invalid think_time": 1, FOLLOWS: 1}),
        # one of two parents
        (
            [{"timestamp": 0, "request_id": "plan"},
             {"think_time": 1, "parent": "plan", "input_length": 0, "request_id": "read"},
             {"think_time": 1, "parent": "plan", "request_id": "search"},
             {"think_time": 0, "parent": ["read", "search"], "request_id": "write"}],
            ["plan", "search"], {"dropped: invalid input_length": 1, FOLLOWS: 1},
        ),
        # a parent's misspelt name is no reason to follow the session's previous turn
        ([S | {"timestamp": 0}, S | {"think_time": 1, "parent": "00"}, S | {"think_time": 1, "parent": "1"},
          S | {"think_time": 1, "parent": "0"}],
         ["0", "3"], {"dropped: invalid parent": 1, FOLLOWS: 1}),
        # rows with a time of their own
        ([{"timestamp": 0, "output_length": 0}, {"timestamp": 1, "parent": "0"}, {"timestamp": 2}],
         ["2"], {"dropped: invalid output_length": 1, FOLLOWS: 1}),
        ([S | {"timestamp": 0}, S | {"timestamp": 1, "history_length": 99}, S | {"timestamp": 2},
          T | {"timestamp": 3}],
         ["0", "3"], {"dropped: invalid history_length": 1, FOLLOWS: 1}),
        # an id that a dropped row has, too: which one is meant is not known
        ([{"timestamp": 0, "request_id": "x"}, {"timestamp": 1, "parent": "x"},
          {"timestamp": 2, "request_id": "x"}, {"timestamp": 3, "parent": "x"}],
         ["x", "1"], {"dropped: invalid request_id": 1, FOLLOWS: 1}),
        # out of order
        ([{"timestamp": 5, "request_id": "late"}, BAD | {"parent": "late"}, {"timestamp": 1},
          {"think_time": 1, "parent": "1"}, {"think_time": 1, "parent": "late"}],
         ["2", "late", "4"], {"dropped: invalid think_time": 1, FOLLOWS: 1, "sorted: out of order": 1}),
    ],
)  # fmt: skip
def test_who_follows_a_dropped_turn_is_dropped_with_it(
    tmp_path: Path, rows: list[dict[str, object]], kept: list[str], counts: dict[str, int]
) -> None:
    trace, found = load_trace(write(tmp_path, rows), skip_invalid=True)
    assert trace.request_ids() == kept
    assert found == counts


def test_a_place_in_the_file_is_the_same_row_whatever_is_dropped(tmp_path: Path) -> None:
    plain = {"input_length": 12, "output_length": 4}
    rows = [{"timestamp": -1}, {"timestamp": 1}, {"timestamp": 2}, {"think_time": 1, "parent": "2"}]
    lines = [json.dumps(plain | row) for row in rows]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(lines))
    trace, _ = load_trace(path, skip_invalid=True)
    assert trace.request_ids() == ["1", "2", "3"]
    assert waits_for(trace) == [(), (), (1,)]
    path.write_text("\n".join(["{", *lines]))
    with pytest.raises(InputError, match="1 row can't be read; expected a request_id in each row"):
        load_trace(path, skip_invalid=True)


def test_a_row_with_a_time_may_begin_as_another_session_does(tmp_path: Path) -> None:
    other = {"session_id": "c", "timestamp": 9, "parent": "b0", "history_length": 5}
    trace, _ = load_trace(write(tmp_path, [*ROWS, other]))
    assert previous_turn(trace).tolist() == [-1, -1, 0, 1, 1]


def test_a_turn_may_wait_for_another_sessions_answer(tmp_path: Path) -> None:
    other = {"session_id": "a", "parent": ["b0"], "think_time": 1, "history_length": 5}
    trace, _ = load_trace(write(tmp_path, [*ROWS, other]))
    assert waits_for(trace)[-1] == (1,)
