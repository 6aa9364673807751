"""Simulated requests per second of the fork's engine, one core.

Processor time is judged: it is the elapsed time of a machine that has nothing else to do. The goal is 5,000.
On the A100-80GB profile capacity is about 13 requests/s. On the profile of the paper's own system it is 5 to
6, so its 64 requests/s for a minute, and bursts, have thousands waiting: there starvation control swaps each
request out 6 to 31 times, and each swap is paid for.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from simsched.cost_model.profile import load_profile
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.named import named_workload
from simsched.workload.trace import Trace

pytestmark = pytest.mark.benchmark_suite

OURS = "a100-80gb/llama-3-8b/serial"
PAPER = "a100-40gb/llama-3-8b/vllm-0.4.1-ltr"
LOADS: dict[str, tuple[str, float | None, int]] = {
    "light": (OURS, 6.0, 10_000),
    "busy": (OURS, 11.0, 10_000),
    "burst": (OURS, None, 2000),
    "overload": (PAPER, 64.0, 3840),
    "paper's burst": (PAPER, None, 2000),
    "large burst": (PAPER, None, 10_000),
}
"""Profile; requests/s (None: all at once); requests."""
GOAL = 5000
STARVED = "ranking(starvation_threshold=200)"
# (policy, load): what it must reach where so many requests are displaced, or swapped, that the goal is missed
LESS = {
    ("po", "burst"): 4000,
    ("po", "large burst"): 4000,
    ("mlfq", "burst"): 4500,
    ("mlfq", "overload"): 3500,
    ("mlfq", "paper's burst"): 3500,
    ("mlfq", "large burst"): 3000,
    (STARVED, "burst"): 2500,
    (STARVED, "overload"): 1000,
    (STARVED, "paper's burst"): 2000,
    (STARVED, "large burst"): 500,
}
SPECS = ["fcfs", "ranking", "classification", "srtf", "po", "mlfq", STARVED]


def requests(rate: float | None, n: int) -> Trace:
    trace = named_workload("sharegpt").generate(n, rate, arrivals="poisson" if rate else "burst", seed=0)
    outputs = trace.num_output_tokens
    noise = np.random.default_rng(1).normal(0, 0.7, n)
    return trace.with_columns(
        score=np.log(outputs) + noise,
        predicted_class=outputs // 820,
        predicted_length=outputs.astype(np.float64),
    )


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("spec", SPECS)
def test_requests_per_second(spec: str, load: str) -> None:
    name, rate, n = LOADS[load]
    profile = load_profile(name)
    config = engine_config(
        "vllm-0.4.1-ltr", num_gpu_blocks=profile.num_gpu_blocks(16), max_model_len=profile.max_model_len
    )
    trace = requests(rate, n)
    best = 0.0
    for _ in range(1 if (spec, load) == (STARVED, "large burst") else 3):
        start = time.process_time()
        simulate(trace, make_policy(spec), profile.cost, config)
        best = max(best, n / (time.process_time() - start))
    print(f"\n{spec}, {load}: {best:,.0f} requests/s")
    assert best >= LESS.get((spec, load), GOAL)
