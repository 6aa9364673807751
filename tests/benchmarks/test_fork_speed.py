"""Simulated requests per second of the fork's engine, one core, on the A100-80GB profile.

Processor time is judged: it is the elapsed time of a machine that has nothing else to do.
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

# (requests/s, None = all at once; requests; least simulated requests/s). In a burst thousands wait, and
# starvation control promotes each of them again and again.
LOADS = {"light": (6.0, 10_000, 5000), "busy": (11.0, 10_000, 5000), "burst": (None, 2000, 500)}
SPECS = ["fcfs", "ranking", "classification", "srtf", "po", "mlfq", "ranking(starvation_threshold=200)"]


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
    rate, n, least = LOADS[load]
    profile = load_profile("a100-80gb/llama-3-8b")
    config = engine_config(
        "vllm-0.4.1-ltr", num_gpu_blocks=profile.num_gpu_blocks(16), max_model_len=profile.max_model_len
    )
    trace = requests(rate, n)
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        simulate(trace, make_policy(spec), profile.cost, config)
        best = max(best, n / (time.process_time() - start))
    print(f"{spec}, {load}: {best:,.0f} requests/s")
    assert best >= least
