"""What the fork's sampler pads, against a naive count over the batch of every step."""

from __future__ import annotations

from typing import Any

import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from tests.engine.scenarios import trace

PRICE, T0 = 1e-6, 0.01
COST = LinearCost(t0=T0, a=0.0, b=0.0, c=0.0, d=0.0, per_padded=PRICE)
POLICIES = ["fcfs", "mlfq(base_quantum=0.03,threshold=2)", "ranking", "po"]


@pytest.mark.parametrize("spec", POLICIES)
def test_steps_cost_what_the_tensors_of_their_batch_hold(spec: str) -> None:
    requests, _ = apply_predictor(None, make_policy(spec), trace(60, 20.0, 3, longest=400), seed=0)
    # few blocks: preempted and swapped requests come back with their outputs
    config = engine_config("vllm-0.4.1-ltr", num_gpu_blocks=80, max_model_len=8192, max_num_seqs=12)
    steps: list[dict[str, Any]] = []
    logged = simulate(requests, make_policy(spec), COST, config, step_log=steps.append)
    index = {name: i for i, name in enumerate(requests.request_ids())}
    prompts = requests.num_prompt_tokens.tolist()
    known, computed = list(prompts), [0] * len(prompts)
    for step in steps:
        for name in step["preempted"]:
            computed[index[name]] = 0
        batch = {index[name]: tokens for name, tokens in step["scheduled"].items()}
        prompt = max(prompts[i] for i in batch)
        output = max(known[i] - prompts[i] for i in batch)
        held = len(batch) * (prompt + output)
        assert step["step_time"] == pytest.approx(T0 + PRICE * held, rel=1e-12)
        for i, tokens in batch.items():
            computed[i] += tokens
            known[i] += computed[i] == known[i]
    leapt = simulate(requests, make_policy(spec), COST, config)
    assert leapt.finish_time.tolist() == logged.finish_time.tolist()
