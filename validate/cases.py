"""What lock-step compares: small workloads and engines in which every rule of the scheduler matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simsched.cost_model.base import CostModel
from simsched.cost_model.models import LinearCost
from simsched.engine.config import EngineConfig, engine_config
from simsched.policies.base import registered
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from simsched.workload.trace import Trace

# About an A100 with Llama-3-8B. No two steps take the same time, so nothing coincides by chance.
COST = LinearCost(t0=0.0110317, a=5.3211e-5, b=6.4237e-5, c=8.0713e-8, d=3.6829e-9)

BUILTIN = ("fcfs", "priority")
"""Policies that vLLM has itself."""

VARIANTS = ("priority(preemptive=true)", "ranking(starvation_threshold=40,starvation_period=5)")
"""Settings that take another path than the defaults of the registered policies."""


@dataclass(frozen=True)
class Case:
    """One policy on one engine; both sides play it."""

    name: str
    policy: str
    scheduler: str
    """`builtin`: vLLM's own class; `policy`: ours."""
    trace: Trace
    config: EngineConfig
    cost: CostModel = COST


@dataclass(frozen=True)
class Setting:
    """An engine and the workload that strains it."""

    engine: dict[str, Any]
    num_requests: int
    request_rate: float
    prompt: float
    """Median prompt length, in tokens; lognormal with sigma 1."""
    output: float
    """Median output length."""
    shared: bool = False
    """Prompts share prefixes (`hash_ids`)."""


SETTINGS: dict[str, Setting] = {
    "tiny": Setting(
        {"max_num_seqs": 8, "max_num_batched_tokens": 256, "num_gpu_blocks": 2000}, 35, 3.0, 100, 60
    ),
    "pressure": Setting(
        {"max_num_seqs": 16, "max_num_batched_tokens": 512, "num_gpu_blocks": 100}, 50, 4.0, 100, 60
    ),
    "no-caching": Setting(
        {
            "max_num_seqs": 16,
            "max_num_batched_tokens": 512,
            "num_gpu_blocks": 100,
            "enable_prefix_caching": False,
        },
        50, 4.0, 100, 60,
    ),
    "shared-prefixes": Setting(
        {"max_num_seqs": 16, "max_num_batched_tokens": 512, "num_gpu_blocks": 120}, 50, 4.0, 200, 60, True
    ),
    "threshold": Setting(
        {
            "max_num_seqs": 16,
            "max_num_batched_tokens": 256,
            "num_gpu_blocks": 120,
            "long_prefill_token_threshold": 48,
            "watermark": 0.03,
            "scheduler_reserve_full_isl": False,
        },
        50, 4.0, 150, 60,
    ),
    "a100": Setting({"num_gpu_blocks": 8000}, 320, 60.0, 150, 100),
}  # fmt: skip
MAX_MODEL_LEN = 1024


def workload(name: str, setting: Setting, seed: int) -> Trace:
    """Poisson arrivals, lognormal lengths, three client priorities; some prompts with shared prefixes."""
    stream = np.random.default_rng([seed, len(name), setting.num_requests])
    n = setting.num_requests
    prompts = np.clip(stream.lognormal(np.log(setting.prompt), 1.0, n), 4, MAX_MODEL_LEN // 2).astype(int)
    outputs = np.clip(stream.lognormal(np.log(setting.output), 1.0, n), 1, MAX_MODEL_LEN // 2 - 1).astype(int)
    block = 32
    hash_ids = None
    if setting.shared:
        # a few system prompts, each continued in a few ways; the rest of a prompt is its own
        hash_ids = []
        for index, prompt in enumerate(prompts):
            system, branch = stream.integers(4), stream.integers(3)
            shared = [int(100 * system + depth) for depth in range(3)]
            shared += [int(1000 + 100 * system + 10 * branch + depth) for depth in range(2)]
            own = [10_000 + 100 * index + depth for depth in range(-(-int(prompt) // block))]
            depth = int(stream.integers(0, 6))
            hash_ids.append(tuple((shared[:depth] + own)[: -(-int(prompt) // block)]))
    return Trace(
        arrival_time=np.cumsum(stream.exponential(1 / setting.request_rate, n)),
        num_prompt_tokens=prompts,
        num_output_tokens=outputs,
        priority=stream.integers(0, 3, n),
        hash_ids=hash_ids,
        hash_block_size=None if hash_ids is None else block,
        name=name,
    )


def builtin_cases(seed: int = 0) -> Iterator[Case]:
    """Every policy on every setting, synchronous and asynchronous; vLLM's own policies also on its class."""
    policies = [*sorted(registered()), *VARIANTS]
    for asynchronous in (False, True):
        for name, setting in SETTINGS.items():
            trace = workload(name, setting, seed)
            config = engine_config(
                max_model_len=MAX_MODEL_LEN, async_scheduling=asynchronous, **setting.engine
            )
            for policy in policies:
                filled, _ = apply_predictor(None, make_policy(policy), trace, seed=seed)
                if policy in BUILTIN:
                    yield Case(name, policy, "builtin", filled, config)
                yield Case(name, policy, "policy", filled, config)
            first = next(policy for policy in policies if policy.startswith("srtf"))
            filled, _ = apply_predictor(None, make_policy(first), trace, seed=seed)
            decodes_first = config.model_copy(update={"decodes_first": True})
            yield Case(f"{name}, decodes first", first, "policy", filled, decodes_first)
