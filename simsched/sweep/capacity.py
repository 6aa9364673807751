"""How many requests per second an engine can serve: the rate at which its queue starts to grow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import HostedCost
from simsched.engine.config import ResolvedConfig
from simsched.engine.host_clock import make_clock
from simsched.engine.step_cost import step_cost
from simsched.workload.trace import IntArray, Trace

SAMPLE = 4000  # requests; the estimate moves by under 1 % beyond


class Capacity(NamedTuple):
    """An estimate of what an engine can serve."""

    rate: float
    """Requests/s."""
    kv_bound: bool
    """KV blocks limit it, so that requests are preempted there; what that recomputes is not in the rate."""


def capacity(
    trace: Trace, cost: CostModel | HostedCost, config: ResolvedConfig, cached: IntArray | None = None
) -> Capacity:
    """Requests/s of a steady full batch with these lengths, under FCFS.

    Each step finishes r requests on average and starts as many, so it holds r·(mean output − 1) decodes; r is
    as large as sequence slots, KV blocks and the token budget allow. Prompts start at random steps (of a
    fixed seed), because a step's time is not linear in its tokens.

    Args:
        trace: the requests.
        cost: of a step.
        config: the engine.
        cached: (n,) tokens of each prompt that come from the prefix cache; None: none.
    """
    budget = config.token_budget
    some = slice(None, None, max(1, len(trace) // SAMPLE))
    prompts = trace.num_prompt_tokens[some]
    hits = np.zeros(len(prompts), dtype=np.int64) if cached is None else np.minimum(cached[some], prompts - 1)
    computed = prompts - hits
    decodes = trace.num_output_tokens[some] - 1.0
    chunks = -(-computed // budget)
    steps = float((chunks + decodes).mean())  # in which a request holds its slot
    # summed over a request's decodes: the tokens it attends to; over its steps: the tokens it holds
    attended = float((decodes * prompts + decodes * (decodes + 1) / 2).mean())
    held = attended + float((chunks * prompts).mean())
    limits = [config.max_running / steps, budget / float((computed + decodes).mean())]
    if config.num_gpu_blocks is not None:
        wasted = steps * config.block_size / 2  # half a block a request
        limits.append(config.num_gpu_blocks * config.block_size / (held + wasted))
    finished = min(limits)  # per step

    num_steps = max(1, round(len(prompts) / finished))
    start = np.random.default_rng(0).integers(0, num_steps, len(prompts))
    P, S, Q = (np.zeros(num_steps) for _ in range(3))
    for chunk in range(int(chunks.max())):
        tokens = np.clip(computed - chunk * budget, 0, budget)
        step = (start + chunk) % num_steps
        np.add.at(P, step, tokens)
        np.add.at(S, step, tokens > 0)
        np.add.at(Q, step, tokens * (hits + chunk * budget + tokens / 2))
    N, K = round(finished * float(decodes.mean())), round(finished * attended)
    kv_bound = len(limits) > 2 and limits[2] == finished
    if isinstance(cost, HostedCost) and config.async_scheduling:
        steps_of = zip(P.tolist(), S.tolist(), Q.tolist(), strict=True)
        features = [StepFeatures(int(p), N, int(s), K, q) for p, s, q in steps_of if p or N]
        clock = make_clock(cost, config)
        clock.begin(features[0])
        ahead = [*features[1:], None]
        seconds = sum(clock.step(*pair) for pair in zip(features, ahead, strict=True))
        return Capacity(len(prompts) / seconds, kv_bound)
    each = step_cost(cost, config)
    prefills = np.flatnonzero(P)
    seconds = (num_steps - len(prefills)) * each.step_time(StepFeatures(N=N, K=K))
    for p, s, q in zip(P[prefills].tolist(), S[prefills].tolist(), Q[prefills].tolist(), strict=True):
        seconds += each.step_time(StepFeatures(int(p), N, int(s), K, q))
    return Capacity(len(prompts) / seconds, kv_bound)
