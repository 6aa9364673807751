"""Token budgets by slack: how much a step may compute before a request misses its next token's deadline."""

from __future__ import annotations

from math import inf

from simsched.policies.engine_view import EngineView
from simsched.policies.p_pas import left_to_prefill
from simsched.request import RequestView


def next_token_due(request: RequestView, ttft: float, tpot: float) -> float:
    """When its next token is due: `arrival + slo_ttft + j * slo_tpot`, for the j-th after the first.

    Args:
        request: the limits are its own, where it brings them.
        ttft: seconds, where it brings none.
        tpot: likewise, for each token after the first.
    """
    first = ttft if request.slo_ttft is None else request.slo_ttft
    each = tpot if request.slo_tpot is None else request.slo_tpot
    return request.arrival_time + first + request.num_output_tokens * each


def tokens_within(engine: EngineView, seconds: float) -> int:
    """The most tokens of a step that takes no longer, all decodes among them; more than the decodes by at
    least one, so that prefills go on.

    Found by bisection over the engine's cost model, as if what is prefilled were one chunk of a new
    prompt.
    """
    decoding = [each for each in engine.running if left_to_prefill(each) <= 1]
    decodes = len(decoding)
    context = sum(each.num_computed_tokens + 1 for each in decoding)
    least, most = 1, max(1, engine.max_num_batched_tokens - decodes)
    if engine.batch_time(decodes, context, most, 1, most * most / 2) <= seconds:
        return decodes + most
    while least < most:
        tokens = (least + most + 1) // 2
        if engine.batch_time(decodes, context, tokens, 1, tokens * tokens / 2) <= seconds:
            least = tokens
        else:
            most = tokens - 1
    return decodes + least


def least_slack(engine: EngineView, ttft: float, tpot: float) -> float:
    """Seconds until the first of the decodes is due for its next token; inf without any."""
    dues = [next_token_due(each, ttft, tpot) for each in engine.running if left_to_prefill(each) <= 1]
    return min(dues, default=inf) - engine.now
