"""A request's life, from a log by hand and from a run that preempts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from simsched.cli import main
from simsched.cli.timeline import _cell
from simsched.errors import InputError
from simsched.timeline import chrome_trace, timeline_of

REQUESTS = pl.DataFrame(
    {
        "request_id": ["a", "b"],
        "arrival_time": [0.0, 0.5],
        "num_prompt_tokens": [10, 4],
        "num_output_tokens": [4, 2],
        "first_token_time": [3.0, 2.0],
        "finish_time": [8.0, 8.0],
    }
)


def step(time: float, scheduled: dict[str, int], preempted: tuple[str, ...] = ()) -> dict[str, object]:
    more = {"num_running": len(scheduled), "num_waiting": 0, "kv_blocks_used": 3}
    return {"time": time, "step_time": 1.0, "scheduled": scheduled, "preempted": list(preempted), **more}


STEPS = [
    step(1.0, {"a": 6, "b": 4}),
    step(2.0, {"a": 4}),
    step(3.0, {"a": 1, "b": 1}),
    step(4.0, {"b": 1}, ("a",)),
    step(5.0, {"b": 1}),
    step(6.0, {"a": 12}),
    step(7.0, {"a": 1}),
]


def test_intervals_by_hand() -> None:
    a, b = timeline_of(REQUESTS, STEPS).requests
    assert [(part.kind, part.start, part.end, part.tokens) for part in a.intervals] == [
        ("queued", 0.0, 1.0, 0),
        ("prefill", 1.0, 2.0, 6),
        ("prefill", 2.0, 3.0, 4),
        ("decode", 3.0, 4.0, 1),
        ("preempted", 4.0, 6.0, 0),
        ("recompute", 6.0, 7.0, 12),
        ("decode", 7.0, 8.0, 1),
    ]
    assert [(part.kind, part.start, part.end) for part in b.intervals] == [
        ("queued", 0.5, 1.0),
        ("prefill", 1.0, 2.0),
        ("waiting", 2.0, 3.0),
        ("decode", 3.0, 6.0),
    ]


def test_a_trace_event_file() -> None:
    events = chrome_trace(timeline_of(REQUESTS, STEPS, ["a"]))["traceEvents"]
    complete = [event for event in events if event["ph"] == "X" and event["pid"] == 1]
    assert len(complete) == 7
    assert (complete[1]["ts"], complete[1]["dur"], complete[1]["name"]) == (1e6, 1e6, "prefill")
    assert {event["name"] for event in events if event["ph"] == "C"} == {"running", "waiting", "KV blocks"}


def test_unknown_requests_and_damaged_logs_are_refused() -> None:
    with pytest.raises(InputError, match="--request c: no such request"):
        timeline_of(REQUESTS, STEPS, ["c"])
    with pytest.raises(InputError, match="damaged step log"):
        timeline_of(REQUESTS, [{"time": 1.0}])


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_a_cell_without_a_log_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--request-rate", "20", "--num-requests", "60", "--max-num-seqs", "8", "--no-plot", "-o", "out"]
    assert command("run", "--policy", "fcfs,srtf", *given) == 0
    assert command("timeline", "out", "--cell", "srtf") == 0
    png, trace = (Path(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert png.stat().st_size > 10_000
    kinds = {event["name"] for event in json.loads(trace.read_text())["traceEvents"] if event["ph"] == "X"}
    assert {"queued", "prefill", "decode", "preempted", "recompute"} <= kinds
    assert command("timeline", "out", "--cell", "none") == 2
    assert command("timeline", "out", "--cell", "srtf", "-o", "x.txt") == 2


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("ranking-12", "2-ranking-12-run0"),  # the first of its runs, not 12.7
        ("ranking-12.7", "4-ranking-12.7-run0"),
        ("3-ranking", "3-ranking-12-run1"),
        (None, "1-fcfs-12-run0"),
        ("12-run0", "fits 2 cells; expected one of 1-fcfs-12-run0, 2-ranking-12-run0"),
        ("none", "fits no cell; expected one of 1-fcfs-12-run0"),
    ],
)
def test_a_cell_by_a_part_of_its_name(wanted: str | None, expected: str) -> None:
    cells = {
        "1-fcfs-12-run0": {"policy": "fcfs", "request_rate": 12.0, "run": 0, "seed": 0},
        "2-ranking-12-run0": {"policy": "ranking", "request_rate": 12.0, "run": 0, "seed": 0},
        "3-ranking-12-run1": {"policy": "ranking", "request_rate": 12.0, "run": 1, "seed": 1},
        "4-ranking-12.7-run0": {"policy": "ranking", "request_rate": 12.7, "run": 0, "seed": 0},
    }
    results: Any = SimpleNamespace(cells=cells)
    if "expected" in expected:
        with pytest.raises(InputError, match=expected):
            _cell(results, wanted)
    else:
        assert _cell(results, wanted) == expected
