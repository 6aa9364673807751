"""What an engine can serve at all: a request that can't ever fit would stop it for good."""

from __future__ import annotations

import numpy as np

from simsched.engine.config import ResolvedConfig, find_preset
from simsched.errors import InputError
from simsched.workload.trace import IntArray, Trace


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
    if not len(trace):
        raise InputError(f"{trace.name}: no requests; expected at least one")
    limit, why = _limit(config)
    if limit < 2:
        raise InputError(f"--num-gpu-blocks {config.num_gpu_blocks}: no request fits {why}")
    prompts, outputs = trace.num_prompt_tokens, trace.num_output_tokens
    bad = prompts + outputs > limit
    num_bad = int(bad.sum())
    if not num_bad:
        return trace, {}
    if truncate:
        short: IntArray = np.minimum(prompts, limit - 1)
        cut = trace.with_columns(
            num_prompt_tokens=short, num_output_tokens=np.minimum(outputs, limit - short)
        )
        return cut, {f"truncated: over {limit} tokens in all ({why})": num_bad}
    if skip_invalid:
        if num_bad == len(trace):
            raise InputError(
                f"{trace.name}: none of the {num_bad} requests fits; expected at most {limit} tokens in all "
                f"({why})"
            )
        return trace.take(np.flatnonzero(~bad)), {f"dropped: over {limit} tokens in all ({why})": num_bad}
    first = int(np.flatnonzero(bad)[0])
    longer = ", a --cost-profile with a longer context serves them" if limit == config.max_model_len else ""
    raise InputError(
        f"{trace.name}: {num_bad} of {len(trace)} requests can never be scheduled; the first is "
        f"{trace.request_ids()[first]} with {prompts[first]} prompt and {outputs[first]} output tokens; "
        f"expected at most {limit} in all ({why}); --skip-invalid drops them, --truncate cuts them{longer}"
    )


def _limit(config: ResolvedConfig) -> tuple[int, str]:
    """The most tokens a request may have, prompt and output, and what limits them."""
    usable = find_preset(config.preset).usable_blocks(config)
    tokens = usable * config.block_size + 1  # the last token generated needs no KV
    if not config.enable_chunked_prefill and config.token_budget < min(config.max_model_len, tokens):
        # after a preemption all but the last token must be computed anew, and at once
        return config.token_budget + 1, f"{config.token_budget} tokens in a step, without chunked prefill"
    if config.max_model_len <= tokens:
        return config.max_model_len, f"max_model_len {config.max_model_len}"
    return tokens, f"{usable} usable KV blocks of {config.block_size} tokens"
