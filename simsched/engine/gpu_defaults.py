"""The batch that vLLM V1 chooses for a GPU where the user does not: `max_num_batched_tokens`, `max_num_seqs`.

As vLLM resolves them for its API server: `get_batch_defaults` and its caller in vllm/engine/arg_utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simsched.vllm_versions import rules_of

GIB: Final = 1 << 30


def batch_defaults(gpu: str | None, memory_bytes: int | None, version: str) -> tuple[int, int]:
    """Tokens and sequences in a step.

    Args:
        gpu: its name, as the driver reports it; None: unknown.
        memory_bytes: its memory; None: unknown.
        version: of vLLM.
    """
    rules, name, memory = rules_of(version), (gpu or "").lower(), memory_bytes or 0
    if memory >= 160 * GIB and rules.large_gpus_get_16384_tokens:
        return 16384, 1024
    is_small = "a100" in name or ("gb10" in name.split() and rules.gb10_is_a_small_gpu)
    if memory >= 70 * GIB and not is_small:
        return 8192, 1024
    return 2048, 256


def resolve_batch(config: Mapping[str, Any], gpu: str | None, memory_bytes: int | None) -> dict[str, int]:
    """Both options for an engine on this GPU: as given, else by default.

    Args:
        config: the engine's options; `max_model_len` is set, the two may be None.
        gpu, memory_bytes: as for `batch_defaults`.
    """
    given_tokens, given_seqs = config["max_num_batched_tokens"], config["max_num_seqs"]
    tokens, seqs = given_tokens, given_seqs
    if tokens is None or seqs is None:
        default_tokens, default_seqs = batch_defaults(gpu, memory_bytes, config["vllm_version"])
        seqs = given_seqs or default_seqs
        if given_tokens is None:
            longest = config["max_model_len"]
            whole = 0 if config["enable_chunked_prefill"] else longest
            tokens = min(max(default_tokens, whole), seqs * longest)  # no more than so many can have
        if given_seqs is None:
            seqs = min(seqs, tokens)
    return {"max_num_batched_tokens": tokens, "max_num_seqs": seqs}
