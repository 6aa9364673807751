"""How long a run lasts where nobody says, what its window is, and what its arms are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.compare import compare
from simsched.compare.phrases import steady_text
from simsched.errors import InputError
from simsched.results import Results, remeasure
from simsched.sweep.execute import run_study
from simsched.sweep.lasting import Server, behind_run_in, seconds_of_arrivals
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study, window_of


@pytest.mark.parametrize(
    ("rate", "capacities", "expected"),
    [
        (8.0, [12.8], 1000.0),  # enough requests
        (100.0, [1000.0], 600.0),  # the least
        (12.0, [12.8], 960.0),  # 45 times what the queue remembers
        (12.5, [12.8], 6600.0),
        (12.79, [12.8], 7200.0),  # the most
        (12.8, [12.8], 7200.0),
        (13.0, [12.8], 380.0),
        (16.0, [12.8], 60.0),
        (64.0, [12.8], 60.0),
        (12.0, [5.0, 12.8], 960.0),  # the arm that can keep up decides
        (12.0, [5.0, 11.0], 66.0),
    ],
)
def test_seconds_of_arrivals(rate: float, capacities: list[float], expected: float) -> None:
    servers = [Server(capacity, alone=0.0, places=256) for capacity in capacities]
    assert seconds_of_arrivals(rate, servers) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("rate", "servers", "num_runs", "expected"),
    [
        # 1 / 15.5 - 5.15 / 512 = 0.0545 s; 5.15 / (1 - 12 * 0.0545)^2 = 43 s, 250 times
        (12.0, [Server(15.5, 5.15, 512)], 1, 10_800.0),
        (12.0, [Server(15.5, 5.15, 512)], 5, 2160.0),  # all runs together
        (14.0, [Server(15.5, 5.15, 512)], 1, 14_400.0),  # the most
        (14.0, [Server(15.5, 5.15, 512), Server(7.0, 5.15, 64)], 1, 7200.0),  # where nobody's queue grows
        (28.0, [Server(31.0, 5.15, 1024)], 1, 14_400.0),  # two replicas at twice the rate
        (24.0, [Server(31.0, 5.15, 1024)], 1, 10_800.0),
        (2.0, [Server(15.5, 5.15, 512)], 1, 4000.0),  # 8,000 requests
        (64.0, [Server(15.5, 5.15, 512)], 1, 60.0),
    ],
)
def test_a_batch_is_given_time_to_forget(
    rate: float, servers: list[Server], num_runs: int, expected: float
) -> None:
    assert seconds_of_arrivals(rate, servers, num_runs) == pytest.approx(expected, rel=0.02)


def test_the_memory_of_a_batch_by_hand() -> None:
    """Steps of 10 ms and 0.1 ms a request more, 100 of them each."""

    def served(n: float) -> float:
        """Requests/s, of n in the batch."""
        return n / (100 * (0.010 + 0.0001 * n))

    server = Server(capacity=served(256), alone=1.0, places=256)
    assert served(100) == 50.0
    assert server.memory(50.0) == pytest.approx(1 / (served(101) - served(99)) * 2, rel=1e-3)
    assert server.memory(0.0) == 1.0


AUTO, WHOLE = {"warmup": "auto", "cooldown": "auto"}, {"warmup": 0.0, "cooldown": 0.0}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, AUTO),
        ({"request_rate": "8"}, AUTO),
        ({"request_rate": "8", "duration": 60}, WHOLE),
        ({"request_rate": "8", "num_requests": 60}, WHOLE),
        ({"arrivals": "burst"}, WHOLE),
        ({"arrivals": "closed(users=4)"}, WHOLE),
        ({"trace": "some.jsonl"}, WHOLE),
        ({"request_rate": "8", "duration": 60, "warmup": "auto"}, {"warmup": "auto", "cooldown": 0.0}),
        ({"warmup": 30, "cooldown": "5"}, {"warmup": 30.0, "cooldown": 5.0}),
    ],
)
def test_only_what_times_itself_is_measured_in_a_window(
    given: dict[str, object], expected: dict[str, object]
) -> None:
    assert window_of(make_study(given)) == expected


@pytest.mark.parametrize("value", ["-1", "soon", "inf"])
def test_a_bad_warmup_is_refused(value: str) -> None:
    with pytest.raises(InputError, match=r"--warmup .*expected seconds, or auto"):
        make_study({"warmup": value})


def test_a_share_is_of_the_baselines_capacity_and_all_arms_meet_it() -> None:
    options = {"policy": "fcfs", "request_rate": "0.5x", "max_num_seqs": "64,256", "duration": 20}
    first = make_plan(make_study(options))
    assert len({cell.load.request_rate for cell in first.cells.values()}) == 1
    other = make_plan(make_study({**options, "baseline": "fcfs,max_num_seqs=256"}))
    (low,) = {cell.load.request_rate for cell in first.cells.values()}
    (high,) = {cell.load.request_rate for cell in other.cells.values()}
    estimates = dict(zip(first.capacity, other.capacity.values(), strict=True))
    assert low is not None
    assert high is not None
    assert [low, high] == pytest.approx([each / 2 for each in estimates.values()], abs=0.05)
    with pytest.raises(InputError, match="no engine of this grid has max_num_seqs so"):
        make_plan(make_study({**options, "baseline": "fcfs,max_num_seqs=100"}))


def test_a_policy_that_reads_no_prediction_is_one_arm() -> None:
    options = {"policy": "fcfs,ranking", "request_rate": "8", "tau": "0.2,0.5,0.8", "duration": 5}
    plan = make_plan(make_study({**options, "predictor": "emulated"}))
    found = [(cell["policy"], cell["tau"]) for cell in plan.options.values()]
    assert sorted(found, key=str) == [("fcfs", None), ("ranking", 0.2), ("ranking", 0.5), ("ranking", 0.8)]


def test_a_stable_cell_serves_what_it_is_offered(tmp_path: Path) -> None:
    study = make_study({"policy": "fcfs,mlfq", "request_rate": "6", "max_num_seqs": 64})
    results = run_study(study, tmp_path / "out", jobs=1)
    assert results.summary["steady"].to_list() == [True, True]
    for row in results.summary.to_dicts():
        assert row["request_throughput"] == pytest.approx(6.0, rel=0.02)
        assert 0 < row["window_start"] < row["window_end"] < 2500
        assert row["growth_low"] < 0 < row["growth_high"]
    lines = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert dict(zip(lines[0].split(","), lines[1].split(","), strict=True))["steady"] == "true"


@pytest.mark.parametrize(
    ("seconds", "run_in", "expected"), [(600, 0, 600), (600, 100, 700), (60, 2315, 5800)]
)
def test_a_run_in_comes_on_top_and_is_no_more_than_a_part(
    seconds: float, run_in: float, expected: float
) -> None:
    assert behind_run_in(seconds, run_in) == expected


def test_a_load_of_sessions_is_judged_while_they_start(tmp_path: Path) -> None:
    """At a rate that it can take and at one that it can't, whatever comes behind the last start."""
    study = make_study(
        {
            "workload": "chat-sessions(think_time=5)", "request_rate": ["0.7x", "1.6x"], "policy": "fcfs",
            "max_num_seqs": [16],
        }
    )  # fmt: skip
    run_study(make_plan(study), tmp_path, jobs=1)
    results = Results.open(tmp_path)
    low, high = results.summary.sort("request_rate").to_dicts()
    assert low["steady"]
    assert low["request_throughput"] == pytest.approx(low["request_rate"], rel=0.1)
    assert not high["steady"]
    assert high["growth"] > 0.1
    again = remeasure(results, window="auto").summary.sort("request_rate").to_dicts()
    ends = [low["window_end"], high["window_end"]]
    assert [row["window_end"] for row in again] == pytest.approx(ends, rel=1e-3)


def test_a_replay_of_sessions_is_judged_while_they_start(tmp_path: Path) -> None:
    """300 sessions of three turns, one every 5 s, on an engine that can't keep up: where turns wait for
    answers only what comes until the last session starts counts, else all arrivals do."""
    waiting = [
        {
            **({"think_time": 20.0} if turn else {"timestamp": 5.0 * session}),
            "session_id": f"s{session}",
            "input_length": 20,
            "output_length": 180,
        }
        for session in range(300)
        for turn in range(3)
    ]
    timed = [{"timestamp": 5.0 * row, "input_length": 20, "output_length": 500} for row in range(900)]
    for name, rows, last in (("waiting", waiting, 1495.0), ("timed", timed, 4495.0)):
        trace = tmp_path / f"{name}.jsonl"
        trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options = {"trace": str(trace), "policy": "fcfs", "max_num_seqs": [1]}
        results = run_study(make_plan(make_study(options)), tmp_path / name, jobs=1)
        (cell,) = results.cells
        found = json.loads((tmp_path / name / "cells" / cell / "summary.json").read_text())["backlog"]
        assert found["growing"]
        assert 0.95 * last <= found["arrivals_end"] <= last
        assert results.requests["arrival_time"].max() > 1600.0
        again = remeasure(results, window="auto").summary  # it finds the same of the finished directory
        assert again["growth"].item() == results.summary["growth"].item() == found["growth"]


def test_sessions_too_short_to_tell_are_unclear_not_growing(tmp_path: Path) -> None:
    """Sessions last longer than half the time in which they start: their first turns alone say nothing."""
    study = make_study(
        {"workload": "chat-sessions", "arrivals": "sessions(1)", "duration": 30, "policy": "fcfs,srtf"}
    )
    results = run_study(study, tmp_path / "out", jobs=1)
    for row in results.summary.to_dicts():
        assert (row["steady"], row["growth_low"], row["growth_high"]) == (False, None, None)
        assert row["growth"] is not None
    assert not any("so many more requests wait" in note for note in compare(results).notes)


@pytest.mark.parametrize(
    ("steady", "growth", "low", "expected"),
    [
        (True, 0.0, -0.1, "yes"),
        (False, 3.2, 3.0, "no, +3.2/s"),
        (False, 3.2, -0.1, "unclear"),
        (False, 3.2, None, "unclear"),
        (None, None, None, "–"),
    ],
)
def test_steady_in_words(steady: bool | None, growth: float | None, low: float | None, expected: str) -> None:
    assert steady_text(steady, growth, low) == expected
