"""Asynchronous leaping gives the asynchronous reference's schedule: same steps, same times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simsched.cost_model.base import CostModel
from simsched.cost_model.host import Graphs, HostCost, HostedCost
from simsched.engine.config import ResolvedConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.engine.vllm_v1.leaping_async import AsyncVllmV1Leap
from simsched.engine.vllm_v1.stepping_async import AsyncVllmV1
from simsched.errors import InputError
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace
from tests.engine.scenarios import (
    POLICIES,
    Linear,
    configs,
    conversations,
    same,
    shared_prefixes,
    trace,
    traces,
)
from tests.engine.test_clock import COST, DEVICE, HOST

COSTS: dict[str, CostModel | HostedCost] = {
    "device": Linear(),
    "host": COST,
    "slow host": replace(COST, host=replace(HOST, speed=4.0)),
    "fast host": replace(COST, host=replace(HOST, speed=0.05)),
    "uneven host": replace(COST, host=replace(HOST, sd=0.2)),
}


@st.composite
def costs(draw: st.DrawFn) -> CostModel | HostedCost:
    """One of those, or a host of any kind."""
    if draw(st.booleans()):
        return COSTS[draw(st.sampled_from(list(COSTS)))]
    seconds = st.sampled_from([0.0, 1e-6, 1e-4, 0.001, 0.005, 0.02, 0.07])
    host = HostCost(
        full=draw(st.sampled_from([1e-5, 0.004, 0.02])),
        piecewise=draw(seconds),
        none=draw(seconds),
        per_sequence=draw(seconds) / 100,
        per_chunk=draw(seconds) / 10,
        per_prefill_token=draw(seconds) / 1000,
        before_first_kernel=(draw(seconds), draw(st.sampled_from([0.0, 0.5, 1.0]))),
        output_per_sequence=draw(seconds) / 100,
        tail=draw(seconds),
        copy=draw(seconds),
        sd=draw(st.sampled_from([0.0, 0.0, 0.3])),
    )
    full = draw(st.sampled_from(["max_num_seqs", 0, 8]))
    return HostedCost(device=DEVICE, host=host, graphs=Graphs(full=full, piecewise=draw(st.integers(0, 600))))


def outcome(
    trace: Trace,
    spec: str,
    cost: CostModel | HostedCost,
    config: ResolvedConfig,
    leap: bool,
    predictor: float,
) -> RunRecord | str:
    """The record, or the message where requests displace each other for ever."""
    try:
        return simulate(trace, make_policy(spec), cost, config, leap=leap, predictor_time=predictor)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("spec", POLICIES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    trace=traces(),
    config=configs(),
    cost=costs(),
    predictor=st.sampled_from([0.0, 0.0, 0.004]),
)
def test_leaping_equals_stepping(
    trace: Trace, spec: str, config: ResolvedConfig, cost: CostModel | HostedCost, predictor: float
) -> None:
    config = config.model_copy(update={"async_scheduling": True})
    stepped = outcome(trace, spec, cost, config, False, predictor)
    leapt = outcome(trace, spec, cost, config, True, predictor)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)


@pytest.mark.parametrize("spec", POLICIES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trace=conversations(), config=configs(), cost=costs())
def test_leaping_equals_stepping_with_shared_prefixes(
    trace: Trace, spec: str, config: ResolvedConfig, cost: CostModel | HostedCost
) -> None:
    config = config.model_copy(update={"async_scheduling": True, "enable_prefix_caching": True})
    stepped = outcome(trace, spec, cost, config, False, 0.0)
    leapt = outcome(trace, spec, cost, config, True, 0.0)
    if isinstance(stepped, str) or isinstance(leapt, str):
        assert stepped == leapt
    else:
        same(stepped, leapt)


@pytest.mark.parametrize("cost", ["device", "host", "slow host"])
@pytest.mark.parametrize("spec", ["fcfs", "srtf", "mlfq"])
@pytest.mark.parametrize("load", [3.0, 20.0])
def test_long_runs_at_the_presets_size(spec: str, load: float, cost: str) -> None:
    """256 slots, leaps of hundreds of steps, and the way into and out of contention."""
    config = engine_config(num_gpu_blocks=1500, max_model_len=4096, async_scheduling=True)
    work = trace(150, load, 11, longest=3000)
    stepped = simulate(work, make_policy(spec), COSTS[cost], config, leap=False)
    same(stepped, simulate(work, make_policy(spec), COSTS[cost], config))


@pytest.mark.parametrize("cost", ["device", "host", "slow host"])
def test_a_leap_leaps(monkeypatch: pytest.MonkeyPatch, cost: str) -> None:
    """One long answer alone takes a handful of scheduler calls, not one per token."""
    calls = 0
    original = AsyncVllmV1Leap.schedule

    def counted(self: AsyncVllmV1Leap, now: float):  # type: ignore[no-untyped-def]
        nonlocal calls
        calls += 1
        return original(self, now)

    monkeypatch.setattr(AsyncVllmV1Leap, "schedule", counted)
    work = trace(20, 0.01, 1).with_columns(closed_loop_users=1)
    config = engine_config(num_gpu_blocks=500, max_model_len=1500, async_scheduling=True)
    record = simulate(work, make_policy("fcfs"), COSTS[cost], config)
    assert record.num_steps > 1000
    assert calls < 20 * 10


@pytest.mark.parametrize("spec", ["fcfs", "srtf", "mlfq", "priority"])
def test_pressure_is_leapt_over(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    """Preemption is no reason to step: the reference is not asked."""

    def never(self: AsyncVllmV1, now: float) -> None:
        raise AssertionError

    config = engine_config(max_num_seqs=24, num_gpu_blocks=120, max_model_len=1500, async_scheduling=True)
    work = trace(150, 50.0, 3)
    stepped = simulate(work, make_policy(spec), COST, config, leap=False)
    assert stepped.num_preemptions.sum() > 50
    monkeypatch.setattr(AsyncVllmV1, "schedule", never)
    same(stepped, simulate(work, make_policy(spec), COST, config))


@pytest.mark.parametrize("spec", ["fcfs", "priority", "srtf", "mlfq"])
def test_shared_prefixes_are_leapt_over(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    """Under pressure, too: the reference is not asked."""

    def never(self: AsyncVllmV1, now: float) -> None:
        raise AssertionError

    config = engine_config(max_num_seqs=16, num_gpu_blocks=110, max_model_len=1500, async_scheduling=True)
    work = shared_prefixes(trace(80, 20.0, 3, longest=1000), 4)
    stepped = simulate(work, make_policy(spec), COST, config, leap=False)
    assert stepped.num_preemptions.sum() > 0
    monkeypatch.setattr(AsyncVllmV1, "schedule", never)
    same(stepped, simulate(work, make_policy(spec), COST, config))


def test_outputs_beyond_the_context_are_cut_off() -> None:
    """Under a policy of ours the engine steps then, and says the same."""
    work = trace(40, 20.0, 3)
    work = work.with_columns(num_output_tokens=np.where(np.arange(40) % 3, work.num_output_tokens, 900))
    config = engine_config(max_num_seqs=8, num_gpu_blocks=200, max_model_len=900, async_scheduling=True)
    for spec in ("fcfs", "srtf"):
        stepped = simulate(work, make_policy(spec), COST, config, leap=False)
        same(stepped, simulate(work, make_policy(spec), COST, config))


@pytest.mark.parametrize("cost", ["device", "host", "slow host"])
@pytest.mark.parametrize("spec", ["fcfs", "srtf", "mlfq"])
def test_replicas_leap_too(spec: str, cost: str) -> None:
    """A delivery cuts a promise to the step under way."""
    config = engine_config(max_num_seqs=16, num_gpu_blocks=200, max_model_len=1500, async_scheduling=True)
    work = trace(120, 15.0, 7)

    def run(leap: bool) -> RunRecord:
        router = make_router("round-robin")
        return simulate(
            work, make_policy(spec), COSTS[cost], config, leap=leap, num_replicas=3, router=router
        )

    same(run(False), run(True))
