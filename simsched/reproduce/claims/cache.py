"""The claims about what is cached: engines' own orders on prompts that share prefixes."""

from __future__ import annotations

from typing import Any

from simsched.reproduce.claims.claim import Check, Claim

_TTFT, _TTFT_99, _HITS = "mean_ttft_ms", "p99_ttft_ms", "prefix_cache_hit_rate"
_SHARED: dict[str, Any] = {
    "workload": "mooncake-conversation",
    "truncate": True,
    "request_rate": ["0.9x", "1.3x"],
    "num_runs": 4,
    "duration": 150,
}
_OURS = "Mooncake-like conversations cut to 8,192 tokens, 8B, near the capacity and above"
_THEIRS = "production traffic on GLM-5.2, 2 nodes of 8 B200, 100 at a time"
_ALWAYS = "lpm(longest_queue=inf,in_batch_check=-1)"
"""Without what SGLang does beside the order."""
_SHORTEST = "sjf-aging(form=trtllm,time_weight=0)"

CACHE = (
    Claim(
        "lpm",
        ("lpm",),
        "Longest prefix match first lowers the mean TTFT by 32 % against FCFS at the same load.",
        "the table of SGLang #32911",
        _THEIRS,
        _OURS,
        {"policy": ["fcfs", "lpm", _ALWAYS], **_SHARED},
        (
            Check("lpm", "fcfs", _TTFT, 0.68),
            Check(_ALWAYS, "fcfs", _TTFT, 0.68, "beside"),
            Check("lpm", "fcfs", _TTFT_99, 1.0, "beside"),
            Check("lpm", "fcfs", _HITS, 1.01, "beside"),
        ),
        "Where nobody waits there is nothing to order. Above the capacity a seventh more of what is looked "
        "up is found, for those who share a prefix come one after the other; the table's servers hold far "
        "more prefixes than one card. SGLang's turn to order of arrival does not show: fewer than 128 wait.",
    ),
    Claim(
        "hrrn",
        ("hrrn",),
        "Highest response ratio next lowers the mean TTFT by 69 % and its P99 by 8 % against FCFS.",
        "SGLang #32911",
        _THEIRS,
        _OURS,
        {"policy": ["fcfs", "hrrn", "lpm"], **_SHARED},
        (
            Check("hrrn", "fcfs", _TTFT, 0.31),
            Check("hrrn", "fcfs", _TTFT_99, 0.92),
            Check("hrrn", "lpm", _TTFT, 1.0, "beside"),
        ),
        "Near the capacity few wait. Above it a third of the mean goes, more than longest prefix first "
        "gains, for it knows what is left to compute and not what is saved; the P99 does not move for sure.",
    ),
    Claim(
        "uncached-first",
        ("uncached-first",),
        "By what is not cached, short prompts first has a lower TTFT than by the prompt's length.",
        "vLLM #51375, TensorRT-LLM's shortest_uncached_first",
        "agents' sessions on servers that prefill only",
        _OURS,
        {"policy": ["fcfs", "uncached-first", _SHORTEST], **_SHARED},
        (
            Check("uncached-first", _SHORTEST, _TTFT, 1.0),
            Check("uncached-first", "fcfs", _TTFT, 1.0, "beside"),
            Check("uncached-first", "fcfs", _TTFT_99, 1.0, "beside"),
        ),
        "Above the capacity an eighth; near it the two orders hardly differ. Either way the longest wait "
        "more: the P99 is a tenth to a fifth above FCFS's.",
    ),
    Claim(
        "dfs-weight",
        ("dfs-weight",),
        "Depth first through the tree of cached prefixes has the best hit rate that an order can have.",
        "NeurIPS 2024, arXiv 2312.07104, theorem 3.1, for a batch of requests and a cache as long as the "
        "longest",
        "theory",
        _OURS,
        {"policy": ["fcfs", _ALWAYS, "dfs-weight"], **_SHARED},
        (
            Check("dfs-weight", "fcfs", _HITS, 1.0001, "somewhere"),
            Check("dfs-weight", _ALWAYS, _HITS, 1.0001, "beside"),
            Check("dfs-weight", "fcfs", _TTFT, 1.0, "beside"),
        ),
        "Above the capacity a seventh more is found than in order of arrival, and exactly as much as by the "
        "longest prefix: with conversations, of which hardly two that wait go on from the same turn, the "
        "two orders are one. Near the capacity nobody waits.",
    ),
)
