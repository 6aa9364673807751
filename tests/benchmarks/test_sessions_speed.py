"""Simulated turns per second of sessions: `chat-sessions`, Llama-3-8B, one replica, FCFS, below the capacity.

Processor time. With prefix caching each turn looks for what its session has left; with asynchronous
scheduling the host's times are in it.
"""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simsched.cost_model.profile import load_profile
from simsched.engine.config import EngineConfig
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.named import named_workload

pytestmark = pytest.mark.benchmark_suite

GOAL = 20_000


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.benchmark(timer=time.process_time)
def test_turns_per_second(benchmark: BenchmarkFixture, caching: bool, ahead: bool) -> None:
    profile = load_profile(f"a100-80gb/llama-3-8b{'' if ahead else '/serial'}")
    config = EngineConfig(enable_prefix_caching=caching, async_scheduling=ahead).resolve(profile)
    cost = profile.step_cost(None)
    work = named_workload("chat-sessions").generate(10_000, arrivals="sessions(1)", seed=0)
    record = benchmark.pedantic(
        simulate, setup=lambda: ((work, make_policy("fcfs"), cost, config), {}), rounds=3
    )
    per_second = len(work) / benchmark.stats.stats.min
    benchmark.extra_info.update(turns_per_second=per_second)
    how = f"{'asynchronous' if ahead else 'synchronous'}, {'with' if caching else 'without'} caching"
    print(f"\n{how}: {per_second:,.0f} turns/s, goal {GOAL:,}")
    assert record.finished.all()
    assert per_second > GOAL / 8  # a machine may be slow and shared
