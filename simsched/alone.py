"""How long requests and sessions take alone on an idle engine: what slowdowns are over."""

from __future__ import annotations

import numpy as np

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.cost_model.host import HostedCost
from simsched.engine.config import ResolvedConfig
from simsched.engine.step_cost import OverlappedCost, step_cost
from simsched.session_metrics import session_numbers
from simsched.workload.content import shared_tokens
from simsched.workload.sessions import waits_for
from simsched.workload.trace import FloatArray, IntArray, Trace


def alone_time(
    trace: Trace, cost: CostModel | HostedCost, config: ResolvedConfig, cached: IntArray | None = None
) -> FloatArray:
    """(n,) seconds each request would take alone on an idle engine: prefill by chunks, then decodes.

    Closed form, exact for the cost model (a request alone is never preempted), but for asynchronous
    scheduling with host times: there it is an estimate, a few launches off. Without predictor time, so that
    all policies share one denominator.

    Args:
        trace: n requests.
        cost: of a step.
        config: the engine.
        cached: (n,) tokens of each prompt that are found in the prefix cache, fewer than it has; None: none.
    """
    each = step_cost(cost, config)
    budget = config.lone_chunk
    full_chunks = [0.0]  # seconds for the first k chunks of `budget` tokens

    def prefill(tokens: int) -> float:
        whole, rest = divmod(tokens, budget)
        while len(full_chunks) <= whole:
            prior = budget * (len(full_chunks) - 1)
            chunk = StepFeatures(P=budget, S=1, Q=budget * (prior + budget / 2))
            full_chunks.append(full_chunks[-1] + each.step_time(chunk))
        if not rest:
            return full_chunks[whole]
        return full_chunks[whole] + each.step_time(
            StepFeatures(P=rest, S=1, Q=rest * (whole * budget + rest / 2))
        )

    def rest_of_prefill(tokens: int, done: int) -> float:
        seconds = 0.0
        while done < tokens:
            chunk = min(budget, tokens - done)
            seconds += each.step_time(StepFeatures(P=chunk, S=1, Q=chunk * (done + chunk / 2)))
            done += chunk
        return seconds

    prompts, place = np.unique(trace.num_prompt_tokens, return_inverse=True)
    prefills = np.array([prefill(int(tokens)) for tokens in prompts])[place]
    if cached is not None:
        for row in np.flatnonzero(cached).tolist():
            prefills[row] = rest_of_prefill(int(trace.num_prompt_tokens[row]), int(cached[row]))
    base, slope = each.decode_line(1, 0)
    decodes = trace.num_output_tokens - 1.0
    # decode j (1, 2, ...) attends to prompt + j tokens
    context = decodes * trace.num_prompt_tokens + decodes * (decodes + 1) / 2
    seconds: FloatArray = prefills + base * decodes + slope * context
    if isinstance(each, OverlappedCost) and (missing := each.decode_floor(1) - base) > 0:
        # the first decodes take as long as their launch, until the context makes them longer
        until = missing / slope - trace.num_prompt_tokens if slope else np.full(len(trace), np.inf)
        short = np.clip(np.ceil(until) - 1, 0, decodes)
        seconds += missing * short - slope * (short * trace.num_prompt_tokens + short * (short + 1) / 2)
    return seconds


def session_alone_time(
    trace: Trace, cost: CostModel | HostedCost, config: ResolvedConfig
) -> FloatArray | None:
    """(n,) seconds from the first arrival to the last answer of each request's session, were it alone on an
    idle engine: think times, and its turns as in `alone_time`, with what its own turns leave in the prefix
    cache. NaN: it is of none; None: there are no sessions.

    Turns that overlap are taken as if each were alone. A turn does not wait for other sessions, and hits
    nothing of theirs.
    """
    session = session_numbers(trace.session_id)
    if session is None:
        return None
    cached = None
    if config.enable_prefix_caching:
        found = shared_tokens(trace, session)
        if found is not None:
            most = np.minimum(np.array(found, dtype=np.int64), trace.num_prompt_tokens - 1)
            cached = most // config.block_size * config.block_size
    turns: list[float] = alone_time(trace, cost, config, cached).tolist()
    thinks = [] if trace.think_times is None else trace.think_times.tolist()
    times: list[float] = trace.arrival_time.tolist()
    of: list[int] = session.tolist()
    count = max(of, default=-1) + 1
    began, first, last = [np.nan] * count, [np.inf] * count, [-np.inf] * count
    ends: list[float] = []  # by row, on the clock of its session
    for row, awaited in enumerate(waits_for(trace)):
        number = of[row]
        ours = [ends[each] for each in awaited if of[each] == number]
        if ours:
            start = max(ours) + thinks[row]
        elif awaited or number < 0:
            start = 0.0
        else:
            if np.isnan(began[number]):
                began[number] = times[row]
            start = times[row] - began[number]
        ends.append(start + turns[row])
        if number >= 0:
            first[number] = min(first[number], start)
            last[number] = max(last[number], ends[row])
    took = np.array([*(end - start for start, end in zip(first, last, strict=True)), np.nan])
    return took[session]
