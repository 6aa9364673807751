"""Token budgets by slack: how much a step may compute before a request misses its next token's deadline."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from simsched.policies.engine_view import EngineView


class Decodes(NamedTuple):
    """The running requests that have nothing left to prefill."""

    num: int
    context: int
    """Tokens known of all of them together."""
    due: float
    """When the first of them is due for its next token; inf without any."""
    least_tpot: float
    """Seconds, of all of theirs; inf without any."""


def decodes_of(engine: EngineView, ttft: float, tpot: float) -> Decodes:
    """Looked at once, for all that budgets ask of them. A request's first token is due `slo_ttft` seconds
    after its arrival, and each further one `slo_tpot` later.

    Args:
        engine: who runs.
        ttft: seconds, for requests that bring no `slo_ttft`.
        tpot: likewise for `slo_tpot`.
    """
    num = context = 0
    due = least = inf
    for each in engine.running:
        generated, computed = each.num_output_tokens, each.num_computed_tokens
        if each.num_prompt_tokens + generated - computed > 1:
            continue
        num += 1
        context += computed + 1
        first, pace = each.slo_ttft, each.slo_tpot
        pace = tpot if pace is None else pace
        next_due = each.arrival_time + (ttft if first is None else first) + generated * pace
        if next_due < due:
            due = next_due
        if pace < least:
            least = pace
    return Decodes(num, context, due, least)


def tokens_within(engine: EngineView, decodes: Decodes, seconds: float) -> int:
    """The most tokens of a step that takes no longer, all decodes among them; more than the decodes by at
    least one, so that prefills go on.

    Found by bisection over the engine's cost model, as if what is prefilled were one chunk of a new
    prompt.
    """
    num, context = decodes.num, decodes.context
    least, most = 1, max(1, engine.max_num_batched_tokens - num)
    if engine.batch_time(num, context, most, 1, most * most / 2) <= seconds:
        return num + most
    while least < most:
        tokens = (least + most + 1) // 2
        if engine.batch_time(num, context, tokens, 1, tokens * tokens / 2) <= seconds:
            least = tokens
        else:
            most = tokens - 1
    return num + least
