"""Questions about a vLLM request that its scheduler answers inside a longer condition."""

from __future__ import annotations

from typing import Any


def outstanding(request: Any) -> int:
    """Tokens known, or on their way, that are not computed yet; 1 for a decode."""
    tokens: int = request.num_tokens + request.num_output_placeholders - request.num_computed_tokens
    return tokens


def is_ending(request: Any) -> bool:
    """Asynchronous scheduling: its last token is on its way, so it frees its place by itself."""
    waiting_for = request.num_output_placeholders
    last = request.num_prompt_tokens + request.max_tokens
    return bool(waiting_for > 0 and request.num_computed_tokens + 2 - waiting_for >= last)


def is_draining(request: Any) -> bool:
    """Asynchronous scheduling: preempted while a step with it was under way; vLLM holds it until then."""
    return bool(getattr(request, "num_stale_output_tokens", 0))


def cached_tokens(manager: Any, request: Any) -> int:
    """How many tokens of a waiting request `schedule()` would find in the cache now: vLLM's own lookup,
    without its statistics."""
    if not manager.enable_caching or getattr(request, "skip_reading_prefix_cache", False):
        return 0
    found = manager.coordinator.find_longest_cache_hit(request.block_hashes, request.num_tokens - 1)
    return int(found[1])
