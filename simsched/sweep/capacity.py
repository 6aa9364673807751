"""How many requests per second an engine can serve: the rate at which its queue starts to grow."""

from __future__ import annotations

import numpy as np

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.config import ResolvedConfig
from simsched.workload.trace import Trace

SAMPLE = 4000  # requests; the estimate moves by under 1 % beyond


def capacity(trace: Trace, cost: CostModel, config: ResolvedConfig) -> float:
    """Requests/s of a steady full batch with these lengths, under FCFS; prefix hits are not counted.

    Each step finishes r requests on average and starts as many, so it holds r·(mean output − 1) decodes; r is
    as large as sequence slots, KV blocks and the token budget allow. Prompts start at random steps (of a
    fixed seed), because a step's time is not linear in its tokens.
    """
    budget = config.token_budget
    some = slice(None, None, max(1, len(trace) // SAMPLE))
    prompts = trace.num_prompt_tokens[some]
    decodes = trace.num_output_tokens[some] - 1.0
    chunks = -(-prompts // budget)
    steps = float((chunks + decodes).mean())  # in which a request holds its slot
    # summed over a request's decodes: the tokens it attends to; over its steps: the tokens it holds
    attended = float((decodes * prompts + decodes * (decodes + 1) / 2).mean())
    held = attended + float((chunks * prompts).mean())
    limits = [config.max_running / steps, budget / float((prompts + decodes).mean())]
    if config.num_gpu_blocks is not None:
        wasted = steps * config.block_size / 2  # half a block a request
        limits.append(config.num_gpu_blocks * config.block_size / (held + wasted))
    finished = min(limits)  # per step

    num_steps = max(1, round(len(prompts) / finished))
    start = np.random.default_rng(0).integers(0, num_steps, len(prompts))
    P, S, Q = (np.zeros(num_steps) for _ in range(3))
    for chunk in range(int(chunks.max())):
        tokens = np.clip(prompts - chunk * budget, 0, budget)
        step = (start + chunk) % num_steps
        np.add.at(P, step, tokens)
        np.add.at(S, step, tokens > 0)
        np.add.at(Q, step, tokens * (chunk * budget + tokens / 2))
    N, K = round(finished * float(decodes.mean())), round(finished * attended)
    prefills = np.flatnonzero(P)
    seconds = (num_steps - len(prefills)) * cost.step_time(StepFeatures(N=N, K=K))
    for p, s, q in zip(P[prefills].tolist(), S[prefills].tolist(), Q[prefills].tolist(), strict=True):
        seconds += cost.step_time(StepFeatures(int(p), N, int(s), K, q))
    return len(prompts) / seconds
