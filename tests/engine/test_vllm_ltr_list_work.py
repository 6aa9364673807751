"""What the fork's scheduler compares in its lists, against a naive count with lists like its own."""

from __future__ import annotations

from typing import Any

import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from tests.engine.scenarios import trace

PRICE, T0 = 1e-9, 0.01
COST = LinearCost(t0=T0, a=0.0, b=0.0, c=0.0, d=0.0, per_compared=PRICE)


def _pairs(batch: list[str], waiting: list[str], running: list[str], swapped: list[str]) -> int:
    """Searches of a step: each chosen request is looked up where it is, then taken out to run."""
    pairs = 0
    for name in batch:
        if name in running:
            pairs += running.index(name) + 1 + len(swapped) + len(waiting)
        elif name in swapped:
            pairs += len(running) + swapped.index(name) + 1
        else:
            pairs += len(running) + len(swapped) + waiting.index(name) + 1
    for name in batch:
        for held, looks in ((waiting, 2), (running, 2), (swapped, 2)):
            if name in held:
                pairs += looks * (held.index(name) + 1)
                held.remove(name)
                break
            pairs += len(held)
    return pairs


@pytest.mark.parametrize("blocks", [2000, 150])
@pytest.mark.parametrize("spec", ["mlfq(base_quantum=0.01,threshold=10)", "po", "ranking"])
def test_steps_cost_what_is_compared_in_lists_like_the_forks(spec: str, blocks: int) -> None:
    requests, _ = apply_predictor(None, make_policy(spec), trace(150, 60.0, 3, longest=300), seed=0)
    config = engine_config("vllm-0.4.1-ltr", num_gpu_blocks=blocks, max_model_len=8192, max_num_seqs=12)
    steps: list[dict[str, Any]] = []
    record = simulate(requests, make_policy(spec), COST, config, step_log=steps.append)
    arrival = dict(zip(requests.request_ids(), requests.arrival_time.tolist(), strict=True))
    finish = dict(zip(requests.request_ids(), record.finish_time.tolist(), strict=True))
    running: list[str] = []
    swapped: list[str] = []
    counted = charged = 0.0
    for step in steps:
        batch = list(step["scheduled"])
        here = {name for name, at in arrival.items() if at <= step["time"] < finish[name]}
        running = [name for name in running if name in here]
        waiting = sorted(here.difference(running, swapped), key=lambda name: arrival[name])
        counted += _pairs(batch, waiting, running, swapped)
        if not spec.startswith("mlfq"):  # every request is looked up in the batch, to count its idle steps
            counted += len(batch) * (len(here) - len(batch)) + len(batch) ** 2 / 2
        charged += (step["step_time"] - T0) / PRICE
        running = [name for name in running if name not in step["swapped_out"]] + batch
        swapped += step["swapped_out"]
    # perception only often takes back those left out long ago, which come first in the list
    assert charged == pytest.approx(counted, rel=0.35 if spec == "po" else 0.15)
