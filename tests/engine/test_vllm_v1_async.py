"""Asynchronous scheduling in the simulator; `validate lockstep` compares it with vLLM's, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.workload.trace import Trace

COST = LinearCost(t0=0.01, a=5e-5, b=6e-5, c=8e-8, d=4e-9)


def run(trace: Trace, policy: str, **options: Any) -> tuple[RunRecord, list[dict[str, Any]]]:
    """A simulation with its step log."""
    steps: list[dict[str, Any]] = []
    config = engine_config(max_model_len=512, **options)
    return simulate(trace, make_policy(policy), COST, config, step_log=steps.append), steps


def lengths(prompts: list[int], outputs: list[int]) -> Trace:
    """Requests that all arrive at once."""
    return Trace(np.zeros(len(prompts)), np.array(prompts), np.array(outputs))


def test_a_request_alone_takes_the_same_steps() -> None:
    trace = lengths([40], [9])
    _, steps = run(trace, "fcfs", num_gpu_blocks=50)
    _, ahead = run(trace, "fcfs", num_gpu_blocks=50, async_scheduling=True)
    assert ahead == steps


def test_a_slot_comes_free_one_step_later() -> None:
    """The first request ends; the third, which waits for its slot, misses the step formed before that."""
    trace = lengths([8, 8, 8], [4, 20, 3])
    options = {"max_num_seqs": 2, "num_gpu_blocks": 50}
    _, steps = run(trace, "fcfs", **options)
    _, ahead = run(trace, "fcfs", async_scheduling=True, **options)
    first = [next(step["step"] for step in log if "2" in step["scheduled"]) for log in (steps, ahead)]
    assert first == [5, 6]


@pytest.mark.parametrize("policy", ["fcfs", "priority", "srtf", "mlfq"])
def test_under_kv_pressure_every_request_gets_its_tokens(policy: str) -> None:
    rng = np.random.default_rng(0)
    n = 40
    trace = Trace(
        arrival_time=np.cumsum(rng.exponential(0.02, n)),
        num_prompt_tokens=rng.integers(5, 120, n),
        num_output_tokens=rng.integers(1, 80, n),
        predicted_length=rng.random(n),
        priority=rng.integers(0, 3, n),
    )
    record, steps = run(trace, policy, max_num_seqs=8, num_gpu_blocks=30, async_scheduling=True)
    assert record.finished.all()
    assert record.num_preemptions.sum() > 0
    assert all(step["kv_blocks_used"] <= 29 for step in steps)
    # a request runs at least once for each of its tokens, whatever was recomputed
    runs = {name: sum(name in step["scheduled"] for step in steps) for name in trace.request_ids()}
    assert all(runs[name] >= outputs for name, outputs in zip(runs, trace.num_output_tokens, strict=True))
