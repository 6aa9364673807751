"""One arm at one rate: what ends a run early, and that nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.capacity.probe import Prober
from simsched.engine.config import EngineConfig
from simsched.metrics import Requests
from simsched.sweep.cell import Arm, Load
from simsched.workload.trace import Trace

CAPACITY = 2.92
"""Requests/s, about."""


def make_prober(policy: str = "fcfs") -> tuple[Prober, list[int]]:
    """With sixteen sequences; and how many requests each of its runs has finished, in turn."""
    arm = Arm(policy, EngineConfig(max_num_seqs=16), "a100-80gb/llama-3-8b")
    prober = Prober(arm, Load(workload="sharegpt"))
    finished: list[int] = []
    run = prober._run

    def noted(*arguments: object) -> tuple[Requests, Trace]:
        requests, trace = run(*arguments)  # type: ignore[arg-type]
        finished.append(int(requests.finished.sum()))
        return requests, trace

    prober._run = noted  # type: ignore[method-assign, assignment]
    return prober, finished


def test_a_steady_rate_takes_the_hour() -> None:
    prober, finished = make_prober()
    seen = prober.probe(2.0)
    assert seen.steady
    assert prober.probe(2.0) is seen
    assert finished == [7200]


@pytest.mark.parametrize(("rate", "seconds"), [(3.5, 900), (3.15, 1800)])
def test_a_backlog_that_plainly_grows_ends_the_run(rate: float, seconds: float) -> None:
    prober, finished = make_prober()
    seen = prober.probe(rate)
    assert not seen.steady
    assert seen.growth == pytest.approx(rate - CAPACITY, abs=0.05)
    assert finished[0] == pytest.approx(CAPACITY * seconds, rel=0.05)


@pytest.mark.parametrize(
    ("rate", "burst", "drains", "early"),
    [
        (1.0, 100, True, True),  # its requests take a minute
        (2.5, 600, True, True),  # 0.42 requests/s leave: 1,400 s
        (3.0, 600, False, False),
        (3.5, 100, False, True),
    ],
)
def test_a_burst_ends_a_run_when_it_is_gone_or_will_plainly_stay(
    rate: float, burst: int, drains: bool, early: bool
) -> None:
    prober, finished = make_prober()
    assert prober.drains(rate, burst, usual=7 * rate) is drains
    assert prober.drains(rate, burst, usual=7 * rate) is drains  # it isn't run again
    (number,) = finished
    assert (number < burst + 1800 * rate) is early


def test_a_short_trace_is_repeated_for_as_long_as_its_workload_lasts(tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    rows = [{"timestamp": 0.3 * i, "input_length": 50 + i % 7, "output_length": 20} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arm = Arm("fcfs", EngineConfig(max_num_seqs=4), "a100-80gb/llama-3-8b")
    prober = Prober(arm, Load(trace=str(path)), hour=300.0)
    seen = prober.probe(10.0)  # 40 requests would be over in 4 s
    assert seen.steady
    assert seen.backlog == pytest.approx(10 * 0.22, rel=0.2)
    requests, trace = prober._run(10.0, 300.0, burst=100)
    assert len(trace) == 3100
    assert requests.finished.all()
    assert (trace.arrival_time == 0).sum() == 101
