"""A label of a load is true of what is offered: after filters and windows, beside what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsched.errors import InputError
from simsched.sweep.inputs import prepare
from simsched.sweep.plan import Plan, make_plan
from simsched.sweep.study import make_study
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace


def plan_of(**options: object) -> Plan:
    return make_plan(make_study({"policy": "fcfs", **options}))


def offered(plan: Plan, cell: str) -> tuple[float, float]:
    """Requests/s that arrive in a cell, and for how long."""
    times = prepare(plan.cells[cell]).trace.arrival_time
    return (len(times) - 1) / (times[-1] - times[0]), times[-1]


def mixed(folder: Path, n: int = 400) -> str:
    """Two requests a second; three of four are too long for 300 tokens."""
    long = np.arange(n) % 4 > 0
    trace = Trace(np.arange(n) / 2, np.where(long, 400, 100), np.full(n, 20))
    write_trace(trace, folder / "mixed.jsonl")
    return str(folder / "mixed.jsonl")


@pytest.mark.parametrize("source", ["workload", "trace"])
def test_the_rate_is_that_of_the_requests_that_fit(tmp_path: Path, source: str) -> None:
    given = {"workload": "sharegpt"} if source == "workload" else {"trace": mixed(tmp_path)}
    plan = plan_of(**given, skip_invalid=True, max_model_len="300", request_rate="0.9x,1.5x")
    for cell, share in zip(plan.cells, (0.9, 1.5), strict=True):
        rate, _ = offered(plan, cell)
        assert rate == pytest.approx(share * plan.capacity[cell], rel=0.04)
        assert plan.offered[cell] == pytest.approx(rate, rel=0.01)
        assert plan.manifest()["offered"][cell] == plan.offered[cell]


def test_a_workload_fills_its_duration_with_requests_that_fit() -> None:
    plan = plan_of(workload="sharegpt", skip_invalid=True, max_model_len="300", request_rate="8", duration=60)
    (cell,) = plan.cells
    inputs = prepare(plan.cells[cell])
    assert len(inputs.trace) == plan.num_requests[cell] == 480
    assert (inputs.trace.num_prompt_tokens + inputs.trace.num_output_tokens).max() <= 300
    assert offered(plan, cell)[1] == pytest.approx(60, rel=0.1)


def test_all_engines_meet_the_requests_that_each_of_them_can_serve(tmp_path: Path) -> None:
    plan = plan_of(trace=mixed(tmp_path), skip_invalid=True, max_model_len="300,2048", request_rate="4")
    assert [len(prepare(cell).trace) for cell in plan.cells.values()] == [100, 100]
    assert [offered(plan, cell)[0] for cell in plan.cells] == pytest.approx([4, 4])


def test_a_window_is_taken_before_stretching(tmp_path: Path) -> None:
    plan = plan_of(trace=mixed(tmp_path), trace_window="50..100", request_rate="4")
    (cell,) = plan.cells
    inputs = prepare(plan.cells[cell])
    assert inputs.trace.request_ids()[0] == "100"
    assert len(inputs.trace) == 100
    assert offered(plan, cell)[0] == pytest.approx(4)
    assert "mixed: 100 of 400 requests in --trace-window 50..100" in plan.notes


def test_resampled_runs_are_paired_and_differ(tmp_path: Path) -> None:
    plan = plan_of(trace=mixed(tmp_path), resample="block(20)", num_runs=3, policy="fcfs,srtf")
    drawn = {}
    for name, cell in plan.cells.items():
        drawn.setdefault(plan.options[name]["run"], []).append(prepare(cell).trace.request_ids())
    assert all(first == second for first, second in drawn.values())  # both policies meet the same
    assert len({tuple(first) for first, _ in drawn.values()}) == 3
    assert not any("replayed alike" in note for note in plan.notes)
    alike = plan_of(trace=mixed(tmp_path), num_runs=3)
    assert any("--resample block(SECONDS)" in note for note in alike.notes)


def test_a_drifting_trace_is_warned_of(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(100) * 10.0, 1000 + np.arange(400) / 4])
    write_trace(Trace(times, np.full(500, 100), np.full(500, 20)), tmp_path / "ramp.jsonl")
    plan = plan_of(trace=str(tmp_path / "ramp.jsonl"), request_rate="0.5x")
    busiest = [note for note in plan.notes if "its busiest tenth has" in note]
    assert len(busiest) == 1
    assert "(0.5 times the capacity)" in busiest[0]
    assert any("--trace-window 990..1100 takes that part alone" in note for note in plan.notes)


@pytest.mark.parametrize(("exact", "apart"), [("", True), (",exact=true", False)])
def test_what_is_offered_is_said_beside_what_was_asked_for(exact: str, apart: bool) -> None:
    plan = plan_of(arrivals=f"gamma(cv=3{exact})", request_rate="8", num_runs=5)
    ratios = [rate / 8 for rate in plan.offered.values()]
    assert (max(abs(ratio - 1) for ratio in ratios) > 0.02) == apart
    notes = [note for note in plan.notes if "the rates that runs get are" in note]
    assert len(notes) == apart
    if apart:
        assert f"{min(ratios):.3f} to {max(ratios):.3f} times" in notes[0]
        assert '"gamma(cv=3,exact=true)" makes them equal' in notes[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_unit": "ms"}, "--time-unit ms: only with --trace"),
        ({"hash_block_size": 16}, "--hash-block-size 16: only with --trace"),
        ({"trace_window": "0..5"}, "--trace-window 0..5: only with --trace"),
        ({"trace": "T", "trace_window": "5"}, "--trace-window 5: expected FROM..TO"),
        ({"trace": "T", "resample": "block"}, "--resample block"),
        ({"trace": "T", "resample": "block(5)", "arrivals": "poisson"}, "--resample and --arrivals exclude"),
        ({"trace": "T", "hash_block_size": 0}, "--hash-block-size 0"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_study(options)


def test_what_the_capacity_leaves_out_is_said(tmp_path: Path) -> None:
    plan = plan_of(workload="sharegpt", request_rate="4", num_gpu_blocks="2000")
    assert any("KV blocks bind: what preemption recomputes is not counted" in note for note in plan.notes)
    turns = Trace(np.arange(4.0), np.array([100, 200, 300, 400]), np.full(4, 50), session_id=["a"] * 4)
    write_trace(turns, tmp_path / "chat.jsonl")
    (note,) = [note for note in plan_of(trace=str(tmp_path / "chat.jsonl")).notes if "capacity" in note]
    assert "(prefix hits not counted; 75% of the prompt tokens are shared, with all of them hit about" in note
