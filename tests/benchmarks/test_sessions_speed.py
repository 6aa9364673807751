"""Simulated turns per second of sessions: `chat-sessions`, Llama-3-8B, one replica, FCFS, below the capacity.

Processor time. Synchronous scheduling; with prefix caching each turn looks for what its session has left.
"""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simsched.cost_model.profile import load_profile
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.named import named_workload

pytestmark = pytest.mark.benchmark_suite

GOAL = 20_000


@pytest.mark.parametrize("caching", [False, True])
@pytest.mark.benchmark(timer=time.process_time)
def test_turns_per_second(benchmark: BenchmarkFixture, caching: bool) -> None:
    profile = load_profile("a100-80gb/llama-3-8b/serial")
    config = engine_config(
        num_gpu_blocks=profile.num_gpu_blocks(16), max_model_len=8192, enable_prefix_caching=caching
    )
    work = named_workload("chat-sessions").generate(10_000, arrivals="sessions(1)", seed=0)
    record = benchmark.pedantic(
        simulate, setup=lambda: ((work, make_policy("fcfs"), profile.cost, config), {}), rounds=3
    )
    per_second = len(work) / benchmark.stats.stats.min
    benchmark.extra_info.update(turns_per_second=per_second)
    print(f"\n{'with' if caching else 'without'} caching: {per_second:,.0f} turns/s, goal {GOAL:,}")
    assert record.finished.all()
    assert per_second > GOAL / 4  # a machine may be slow and shared
