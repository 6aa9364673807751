"""How fast replicas behind a router are simulated:
`python -m pytest tests/benchmarks/test_replicas_speed.py -q -s`.

Requests per second of processor time, FCFS, `vllm-v1`, ShareGPT-like requests on the A100-80GB profile,
synchronous, at 0.9 of the capacity of all replicas.
"""

from __future__ import annotations

import time

import pytest

from simsched.engine.config import EngineConfig
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import prepare
from simsched.sweep.run import run

pytestmark = pytest.mark.benchmark_suite

ROUTERS = {"round-robin": 60_000, "random": 60_000, "least-requests": 30_000, "power-of-two": 30_000,
           "vllm-dp": 30_000, "llm-d": 30_000, "least-predicted-work": 30_000}  # fmt: skip


def rate(router: str, num_replicas: int, num_requests: int) -> float:
    """Requests simulated in a second of processor time."""
    load = Load(
        workload="sharegpt", arrivals="poisson", request_rate=11.5 * num_replicas, num_requests=num_requests
    )
    arm = Arm(
        "fcfs",
        EngineConfig(),
        "a100-80gb/llama-3-8b/serial",
        num_replicas=num_replicas,
        router=router,
    )
    inputs = prepare(Cell(load, arm))
    start = time.process_time()
    run(inputs)
    return num_requests / (time.process_time() - start)


def test_speed() -> None:
    print("\n| router | 1 replica | 16 | 64 | goal at 16 |\n|---|---|---|---|---|")
    for router, goal in ROUTERS.items():
        speeds = [rate(router, count, 40_000) for count in (1, 16, 64)]
        print(f"| {router} | {' | '.join(f'{speed:,.0f}' for speed in speeds)} | {goal:,} |")
        assert speeds[1] > goal / 4  # a machine may be slow and shared
