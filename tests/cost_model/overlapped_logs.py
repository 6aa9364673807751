"""Step logs as an asynchronous engine on a GPU writes them, from a simulation whose costs are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from simsched.cost_model.host import HostCost, HostedCost
from simsched.cost_model.models import TableCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.trace import Trace

DEVICE = TableCost(knots=(1, 300, 8192), g=(0.0063, 0.0063, 0.17), c=4.6e-8, d=1.9e-9, h=8e-6, per_chunk=8e-4)
HOST = HostCost(
    full=0.0036, piecewise=0.010, none=0.024, per_sequence=4.5e-5, per_chunk=3e-4,
    before_first_kernel=(0.0028, 0.95), output_per_sequence=2e-5, tail=0.003, copy=1e-4,
)  # fmt: skip
COST = HostedCost(device=DEVICE, host=HOST)


def trace(count: int, rate: float, seed: int) -> Trace:
    """Prompts of 8 to 1,500 tokens and answers of up to 300."""
    rng = np.random.default_rng(seed)
    return Trace(
        arrival_time=np.cumsum(rng.exponential(1 / rate, count)),
        num_prompt_tokens=np.round(np.exp(rng.uniform(np.log(8), np.log(1500), count))).astype(np.int64),
        num_output_tokens=rng.integers(1, 300, count),
        request_id=[f"r{index}" for index in range(count)],
    )


def simulated_lines(requests: Trace, cost: HostedCost) -> list[dict[str, Any]]:
    """A step log's lines, without the raw stamps of newer logs."""
    config = engine_config("vllm-v1", max_model_len=4096, num_gpu_blocks=8000, async_scheduling=True)
    lines: list[dict[str, Any]] = []
    simulate(requests, make_policy("fcfs"), cost, config, step_log=lines.append)
    _add_features(requests, lines)
    over, updated = -1.0, -1.0
    for line in lines:
        # a simulated step is over when its tokens are out, a real one's end is when the engine has them
        out = cost.host.speed * cost.host.output_per_sequence * (line["N"] + line["S"])
        begun, ended = line["time"], line["time"] + line["step_time"]
        line["time"] = begun if begun > over + 1e-9 else updated  # clamped to the last update
        over, updated = ended, ended - out
        line["end"] = updated
        line["step_time"] = updated - line["time"]
    return lines


def _add_features(requests: Trace, lines: list[dict[str, Any]]) -> None:
    """P, N, S, K, Q of each step, from what each request had computed (nothing is preempted or cached)."""
    prompts = dict(zip(requests.request_ids(), requests.num_prompt_tokens.tolist(), strict=True))
    computed = dict.fromkeys(prompts, 0)
    for line in lines:
        line.update(P=0, N=0, S=0, K=0, Q=0.0)
        for name, tokens in line["scheduled"].items():
            prior = computed[name]
            if prior < prompts[name]:
                line["P"] += tokens
                line["S"] += 1
                line["Q"] += tokens * (prior + tokens / 2)
            else:
                line["N"] += 1
                line["K"] += prior + 1
            computed[name] += tokens


def write_log(folder: Path, name: str, lines: list[dict[str, Any]]) -> None:
    """Into the `steps/` of a results directory."""
    (folder / "steps").mkdir(parents=True, exist_ok=True)
    facts = {"device": "cuda", "engine": "offline", "vllm_version": "0.25.1", "machine": {"gpu": "a card"}}
    (folder / "replay.json").write_text(json.dumps(facts))
    (folder / "steps" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
