"""The claims about whose requests these are: tenants, programs, and classes with limits."""

from __future__ import annotations

from typing import Any

from simsched.reproduce.claims.claim import VTC_BOUND, Check, Claim
from simsched.reproduce.claims.measures import ON_TIME, SERVICE_GAP

_COMPLETION, _COMPLETION_99 = "mean_session_completion_ms", "p99_session_completion_ms"
_SLOWDOWN = "mean_session_slowdown"
_PROGRAMS: dict[str, Any] = {
    "arrivals": ["sessions(2)", "sessions(4)"],
    "max_num_seqs": 24,
    "num_runs": 5,
}
_PROGRAMS_HERE = (
    "200 programs, 2 and 4 a second: chains of up to 6 calls, and for every fourth 2 to 4 rounds of 6 calls "
    "side by side; 300 tokens in and 150 out, 8B, 24 at a time, no think time"
)

OWNERS = (
    Claim(
        "vtc",
        ("vtc",),
        "Between two tenants of which something always waits, the virtual token counter keeps the "
        "difference in service within 2 max(w_in L, w_out M); first come, first served does not.",
        "OSDI 2024, arXiv 2401.00588, theorem 4.4",
        "two tenants beyond their share at unequal rates, Llama-2-7B on an A10G",
        "LMSYS-like at 3 times the capacity, two tenants at rates of 1 to 2, 8B, a KV cache of 16,500 "
        "tokens; service is 1 a prompt token and 2 an output token",
        {
            "policy": ["fcfs", "vtc"],
            "arrivals": "poisson",
            "request_rate": ["3x"],
            "num_gpu_blocks": 1032,
            "num_runs": 5,
        },
        (
            Check("vtc", VTC_BOUND, SERVICE_GAP, 1.0, "price"),
            Check("vtc", "fcfs", SERVICE_GAP, 1.0),
            Check("fcfs", VTC_BOUND, SERVICE_GAP, 1.0, "beside"),
            Check("vtc", "fcfs", "output_throughput", 1.0, "beside"),
        ),
        "The difference is less than half of what is proved; under first come, first served the tenant that "
        "asks for twice as much gets twice as much, and the difference grows as long as both wait. Fairness "
        "costs no throughput here, for prompts share nothing.",
        "tenants",
    ),
    Claim(
        "dlpm",
        ("dlpm",),
        "Longest prefix first among the tenants with something left of their quantum has up to 2.87 times "
        "the throughput of the virtual token counter.",
        "arXiv 2501.14312",
        "tree of thoughts and question answering over long documents, several tenants",
        "three tenants with three texts of 1,536 tokens each, at 6 times the capacity that is estimated "
        "without a cache, 8B, 32 at a time, a KV cache of 11,200 tokens",
        {
            "policy": ["fcfs", "vtc", "lpm", "lpm(longest_queue=inf)", "dlpm"],
            "arrivals": "poisson",
            "request_rate": ["6x"],
            "num_gpu_blocks": 700,
            "max_num_seqs": 32,
            "num_runs": 4,
        },
        (
            Check("dlpm", "vtc", "output_throughput", 2.87, "somewhere"),
            Check("dlpm", "lpm", "output_throughput", 1.0001, "beside"),
            Check("dlpm", "lpm(longest_queue=inf)", "output_throughput", 1.0001, "beside"),
            Check("dlpm", "vtc", "prefix_cache_hit_rate", 1.0001, "beside"),
            Check("dlpm", "vtc", SERVICE_GAP, 1.0, "beside"),
        ),
        "The cache holds seven of the nine texts, and fewer beside the requests that run, so an order by "
        "tenants throws out what it needs next. Longest prefix first alone, which SGLang gives up for the "
        "order of arrival above 128 waiting requests, has a third less than dlpm; never given up it has as "
        "much or a little more, and knows no tenants. The published 2.87 is of trees of thoughts, which "
        "share more.",
        "tenants-texts",
    ),
    Claim(
        "plas",
        ("plas",),
        "The program that has been served least first has 4 times the throughput of vLLM's order at the "
        "same latency of programs; at the same load its programs are done sooner.",
        "Autellix, NSDI 2026, arXiv 2502.13965",
        "programs of 7 to 11 calls and more on vLLM, several models",
        _PROGRAMS_HERE,
        {"policy": ["fcfs", "mlfq", "plas"], **_PROGRAMS},
        (
            Check("plas", "fcfs", _COMPLETION, 1.0),
            Check("plas", "mlfq", _COMPLETION, 1.0),
            Check("plas", "fcfs", _SLOWDOWN, 1.0, "beside"),
            Check("plas", "fcfs", _COMPLETION_99, 1.0, "beside"),
        ),
        "Throughput at equal latency is not looked for, only whether programs are done sooner at equal "
        "load. At 2 programs a second the mean falls by a fifth and the slowdown nearly by half, for short "
        "programs pass long ones; at 4 nearly all must wait, and the levels of single calls (mlfq) do as "
        "well. The longest programs pay: their P99 is 9 to 36 % above first come, first served.",
        "programs",
    ),
    Claim(
        "atlas",
        ("atlas",),
        "Where programs call in parallel, to count the critical path alone lets them be done sooner than to "
        "count all service of a program, and than first come, first served.",
        "Autellix, NSDI 2026, arXiv 2502.13965",
        "Monte Carlo tree search (LATS), 160 calls a program",
        _PROGRAMS_HERE,
        {"policy": ["fcfs", "plas", "atlas"], **_PROGRAMS},
        (
            Check("atlas", "fcfs", _COMPLETION, 1.0),
            Check("atlas", "plas", _COMPLETION, 1.0),
            Check("atlas", "fcfs", _SLOWDOWN, 1.0, "beside"),
            Check("atlas", "plas", _COMPLETION_99, 1.0, "beside"),
        ),
        "Programs that fan out have eight calls where a chain has one, so they hold most of the places, and "
        "their critical path stays short: they go ahead of chains that ask for less. To count all service "
        "is the better guess of what is left here. A mean slowdown 17 to 29 % below first come, first "
        "served is what remains. The paper's programs are all of one kind.",
        "programs",
    ),
    Claim(
        "edf",
        ("edf", "least-slack"),
        "Where all deadlines can be kept, earliest deadline first and least slack first keep them; first "
        "come, first served does not.",
        "Dertouzos, 1974, for one server; vLLM #53571 for TTFT",
        "theory: one server, preemptive",
        "LMSYS-like, half with 15 s to the end of the answer and half with 120 s, at 1.2 and 1.5 times the "
        "capacity for 1,500 requests, 8B, 48 at a time",
        {
            "policy": ["fcfs", "edf", "least-slack", "edf(preemptive=true)"],
            "arrivals": "poisson",
            "request_rate": ["1.2x", "1.5x"],
            "max_num_seqs": 48,
            "num_runs": 5,
        },
        (
            Check("edf", "fcfs", ON_TIME, 1.0001),
            Check("least-slack", "fcfs", ON_TIME, 1.0001),
            Check("edf(preemptive=true)", "edf", ON_TIME, 1.0001, "beside"),
            Check("edf", "fcfs", "mean_e2el_ms", 1.0, "beside"),
        ),
        "Half of the requests can wait for two minutes, so there is time to keep all limits but those of "
        "answers that take 15 s by themselves: 99 % are kept, against 61 to 70 % in order of arrival, at 3 "
        "% of the mean latency. Preemption adds nothing.",
        "classes",
    ),
)
