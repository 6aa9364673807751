"""What an engine can serve at all: a request that can't ever fit would stop it for good."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simsched.cost_model.profile import longest_context
from simsched.engine.config import ResolvedConfig, find_preset
from simsched.errors import InputError
from simsched.text.options import option_flag
from simsched.workload.sessions import stranded
from simsched.workload.trace import IntArray, Trace


class Limit(NamedTuple):
    """The most tokens that a request may have, prompt and output."""

    tokens: int
    why: str
    """What limits them."""


def limit_of(config: ResolvedConfig) -> Limit:
    """What this engine can serve at all."""
    usable = find_preset(config.preset).usable_blocks(config)
    tokens = usable * config.block_size + 1  # the last token generated needs no KV
    if not config.enable_chunked_prefill and config.token_budget < min(config.max_model_len, tokens):
        # after a preemption all but the last token must be computed anew, and at once
        return Limit(
            config.token_budget + 1, f"{config.token_budget} tokens in a step, without chunked prefill"
        )
    if config.max_model_len <= tokens:
        return Limit(config.max_model_len, f"max_model_len {config.max_model_len}")
    return Limit(tokens, f"{usable} usable KV blocks of {config.block_size} tokens")


def longer_context(limit: Limit) -> str:
    """The end of a message on requests that are too long: which profiles take longer ones."""
    longest, names = longest_context()
    if not limit.why.startswith("max_model_len") or limit.tokens >= longest:
        return ""
    return f"; --cost-profile {' or '.join(names)} has a context of {longest}"


def fit(trace: Trace, limit: Limit, truncate: bool = False) -> tuple[Trace, dict[str, int]]:
    """The requests that have at most so many tokens, and how many were dropped or (`truncate`) cut, and why.

    Raises:
        InputError: none is left.
    """
    tokens, why = limit
    prompts, outputs = trace.num_prompt_tokens, trace.num_output_tokens
    bad = prompts + outputs > tokens
    num_bad = int(bad.sum())
    if not num_bad:
        return trace, {}
    if truncate:
        short: IntArray = np.minimum(prompts, tokens - 1)
        cut = trace.with_columns(
            num_prompt_tokens=short, num_output_tokens=np.minimum(outputs, tokens - short)
        )
        return cut, {f"truncated: over {tokens} tokens in all ({why})": num_bad}
    lost = stranded(trace, ~bad) & ~bad
    if (bad | lost).all():
        shortest = int((prompts + outputs).min())
        raise InputError(
            f"{trace.name}: no request fits: the shortest has {shortest} prompt and output tokens; expected "
            f"at most {tokens} in all ({why}){longer_context(limit)}"
        )
    counts = {f"dropped: over {tokens} tokens in all ({why})": num_bad}
    if lost.any():
        counts["dropped: would wait for the answer to one of those"] = int(lost.sum())
    return trace.take(np.flatnonzero(~(bad | lost))), counts


def check_admissible(
    trace: Trace, config: ResolvedConfig, skip_invalid: bool = False, truncate: bool = False
) -> tuple[Trace, dict[str, int]]:
    """The requests that fit `max_model_len` and the KV cache, and how many were dropped or cut, and why.

    Args:
        trace: the requests.
        config: the engine.
        skip_invalid: drop those that don't fit.
        truncate: cut their outputs, and prompts that leave no room for one token.

    Raises:
        InputError: requests that don't fit, when neither option is given; none is left.
    """
    for option in ("max_num_queued_reqs", "max_num_queued_tokens"):
        waits = trace.closed_loop_users is not None or trace.think_times is not None
        if getattr(config, option) is not None and waits:
            raise InputError(
                f"{option_flag(option)}: a user of a closed loop or session waits for an answer, and a "
                "refused request gets none; expected arrivals of their own"
            )
    if not len(trace):
        raise InputError(f"{trace.name}: no requests; expected at least one")
    limit = limit_of(config)
    if limit.tokens < 2:
        raise InputError(f"--num-gpu-blocks {config.num_gpu_blocks}: no request fits {limit.why}")
    if truncate or skip_invalid:
        return fit(trace, limit, truncate)
    prompts, outputs = trace.num_prompt_tokens, trace.num_output_tokens
    bad = np.flatnonzero(prompts + outputs > limit.tokens)
    if not len(bad):
        return trace, {}
    first = int(bad[0])
    raise InputError(
        f"{trace.name}: {len(bad)} of {len(trace)} requests can never be scheduled; the first is "
        f"{trace.request_ids()[first]} with {prompts[first]} prompt and {outputs[first]} output tokens; "
        f"expected at most {limit.tokens} in all ({limit.why}); --skip-invalid drops them, --truncate cuts "
        f"them{longer_context(limit)}"
    )
