"""Simulated requests per second where prompts share prefixes: Mooncake-like conversations, Llama-3.1-8B.

A prompt of 12,000 tokens takes six steps or more, and most policies leave others out of those steps, so a
request costs more than in `test_engine_speed.py`. Processor time, as there.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simsched.cost_model.profile import Profile, load_profile
from simsched.engine.admissible import check_admissible
from simsched.engine.config import EngineConfig, engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.sweep.capacity import capacity
from simsched.workload.named import named_workload
from simsched.workload.trace import Trace

pytestmark = pytest.mark.benchmark_suite

GOALS = {"fcfs": 5_000, "priority": 5_000, "ranking": 1_000, "srtf": 1_000, "po": 300, "mlfq": 300}


@cache
def profile() -> Profile:
    return load_profile("a100-80gb/llama-3.1-8b/serial")


@cache
def config() -> EngineConfig:
    return engine_config(num_gpu_blocks=profile().num_gpu_blocks(16), max_model_len=profile().max_model_len)


def conversations(n: int, rate: float) -> Trace:
    made = named_workload("mooncake-conversation").generate(n, rate, arrivals="poisson", seed=0)
    made, _ = check_admissible(made, config(), truncate=True)
    random = np.random.default_rng(1)
    outputs = made.num_output_tokens
    return made.with_columns(
        score=np.log(outputs) + random.normal(0, 0.7, n),
        predicted_length=outputs.astype(np.float64),
        priority=random.integers(0, 3, n),
    )


@cache
def load(share: float) -> Trace:
    full_rate = capacity(conversations(4000, 1.0), profile().cost, config()).rate
    return conversations(5000, share * full_rate)


@pytest.mark.parametrize("share", [0.9, 4.0])
@pytest.mark.parametrize("spec", GOALS)
@pytest.mark.benchmark(timer=time.process_time)
def test_requests_per_second(benchmark: BenchmarkFixture, spec: str, share: float) -> None:
    work = load(share)
    record = benchmark.pedantic(
        simulate, setup=lambda: ((work, make_policy(spec), profile().cost, config()), {}), rounds=3
    )
    per_second = len(work) / benchmark.stats.stats.min
    benchmark.extra_info.update(requests_per_second=per_second)
    print(
        f"\n{spec}, {share} of capacity: {per_second:,.0f} requests/s, {record.num_steps:,} steps, "
        f"{record.num_preemptions.sum():,} preemptions"
    )
    assert per_second >= GOALS[spec]
