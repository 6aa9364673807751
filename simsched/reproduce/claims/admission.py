"""The claims about who is let in, and about how many tokens a step computes."""

from __future__ import annotations

from typing import Any

from simsched.reproduce.claims.claim import BOUND, Check, Claim

_LATENCY, _GOODPUT, _TTFT_99 = "mean_e2el_ms", "request_goodput", "p99_ttft_ms"
_MEMORY: dict[str, Any] = {
    "workload": "lmsys",
    "predictor": "oracle",
    "request_rate": [10, 50],
    "num_requests": 1000,
    "num_gpu_blocks": 1032,
    "num_runs": 5,
}
_MEMORY_HERE = "LMSYS-like, 1,000 requests at 10 and 50 req/s, 8B, a KV cache of 16,500 tokens, true lengths"
_LIMITS: dict[str, Any] = {
    "workload": "azure-conv",
    "request_rate": ["0.9x", "1.1x"],
    "goodput": "ttft:6000,tpot:100",
    "duration": 60,
    "num_runs": 5,
}

ADMISSION = (
    Claim(
        "mc-sf",
        ("mc-sf",),
        "MC-SF's mean latency is within 5 % of what hindsight could do, and less than half of FCFS's.",
        "arXiv 2502.07115",
        "10,000 LMSYS requests in Vidur, Llama-2-70B, 16,492 tokens of KV cache, 10 and 50 req/s; hindsight "
        "on small instances",
        _MEMORY_HERE,
        {"policy": ["fcfs", "sjf", "mc-sf"], **_MEMORY},
        (
            Check("mc-sf", BOUND, _LATENCY, 1.05, "price"),
            Check("mc-sf", "fcfs", _LATENCY, 0.5),
            Check("mc-sf", "sjf", _LATENCY, 1.0, "beside"),
            Check("mc-sf", "sjf", "num_preemptions", 1.0, "beside"),
        ),
        "The bound is one that no policy need reach, so how far hindsight would be from it is not known. "
        "Against shortest job first MC-SF trades waiting for a quarter to a half of the preemptions: 4 % "
        "faster at 10 req/s, 8 % slower at 50. Half of FCFS's latency it has at 50 req/s alone.",
    ),
    Claim(
        "svf",
        ("svf",),
        "Smallest volume first has a lower mean latency than shortest job first.",
        "arXiv 2606.22327",
        "Llama-3.1 on vLLM",
        _MEMORY_HERE,
        {"policy": ["sjf", "mc-sf", "svf"], **_MEMORY},
        (
            Check("svf", "sjf", _LATENCY, 1.0),
            Check("svf", "mc-sf", _LATENCY, 1.0, "beside"),
            Check("svf", BOUND, _LATENCY, 1.0, "beside"),
        ),
        "At 50 req/s it is 6 % faster; at 10 req/s the interval ends at 1. It fits the cache better than "
        "MC-SF in overload, for it counts the prompt too.",
    ),
    Claim(
        "a-min",
        ("a-min",),
        "A_min, which knows an interval for each length and takes its lower end, comes close to hindsight.",
        "arXiv 2508.14544",
        "LMSYS in a simulator, intervals around the true lengths",
        "LMSYS-like, 1,000 requests at 10 and 50 req/s, 8B, a KV cache of 16,500 tokens; distributions of "
        "tau 0.64",
        {
            "policy": ["fcfs", "a-min", "ranking(preemptive=false)"],
            **_MEMORY,
            "predictor": "emulated(tau=0.64)",
        },
        (
            Check("a-min", BOUND, _LATENCY, 1.2, "price"),
            Check("a-min", "fcfs", _LATENCY, 1.0, "beside"),
            Check("a-min", "ranking(preemptive=false)", _LATENCY, 1.0, "beside"),
        ),
        "Close is taken as within 20 % of a bound that no policy need reach. It halves FCFS's latency at 50 "
        "req/s, but shortest first by the same score, not preemptive and admitted as vLLM does, is 6 to 12 "
        "% faster.",
    ),
    Claim(
        "qoserve",
        ("qoserve",),
        "QoServe's goodput is 1.5 to 2.4 times that of a plain token budget.",
        "ASPLOS 2026, arXiv 2503.22562; a reproduction in vLLM found the whole gain in the chunk",
        "ShareGPT and Azure, three classes of service, Sarathi-Serve's fixed chunks",
        "Azure conversations, 8B, TTFT 6 s and TPOT 100 ms, against FCFS with vLLM's budget",
        {"policy": ["fcfs", "qoserve(tpot=0.1)", "p-pas"], **_LIMITS},
        (
            Check("qoserve(tpot=0.1)", "fcfs", _GOODPUT, 1.5),
            Check("p-pas", "fcfs", _GOODPUT, 1.0001, "beside"),
            Check("qoserve(tpot=0.1)", "p-pas", _GOODPUT, 1.0001, "beside"),
        ),
        "There is one class of requests here, so nothing to trade between classes. Chunks by slack gain 15 "
        "% above the capacity, in runs that differ too much to be sure; the fixed budgets of P-PAS, which "
        "look at no limit, gain 42 %. It is the size of the chunk, as that reproduction found.",
    ),
    Claim(
        "fair-batching",
        ("fair-batching",),
        "FairBatching raises the goodput by 20 to 90 %.",
        "arXiv 2510.14392, as others report it",
        "three traces on vLLM 0.10.1",
        "Azure conversations, 8B, TTFT 6 s and TPOT 100 ms",
        {"policy": ["fcfs", "fair-batching(ttft=6,tpot=0.1)"], **_LIMITS},
        (
            Check("fair-batching(ttft=6,tpot=0.1)", "fcfs", _GOODPUT, 1.2),
            Check("fair-batching(ttft=6,tpot=0.1)", "fcfs", _TTFT_99, 1.0, "beside"),
        ),
        "Below the capacity all keep their limits, whoever chooses the budget. Above it 9 % are gained in "
        "the mean over runs that differ too much to be sure.",
    ),
    Claim(
        "past-future",
        ("past-future",),
        "LightLLM's past-future admission has 2 to 3 times the goodput of admission that looks at no memory "
        "to come.",
        "ASPLOS 2025, arXiv 2507.10150",
        "several datasets under heavy load on LightLLM, against aggressive and conservative admission",
        "ShareGPT-like, 8B, a KV cache of 48,000 tokens, TTFT 6 s and TPOT 100 ms",
        {
            "policy": ["fcfs", "past-future"],
            "workload": "sharegpt",
            "request_rate": ["0.9x", "1x", "1.3x"],
            "num_gpu_blocks": 3000,
            "goodput": "ttft:6000,tpot:100",
            "duration": 120,
            "num_runs": 5,
        },
        (
            Check("past-future", "fcfs", _GOODPUT, 2.0, "somewhere"),
            Check("past-future", "fcfs", "num_preemptions", 1.0, "beside"),
            Check("past-future", "fcfs", _LATENCY, 1.0, "beside"),
        ),
        "It does what it is made for: nine of ten preemptions are gone, and the mean latency is a fifth "
        "lower at the capacity and above. Goodput rises by a quarter in the mean, over runs that differ too "
        "much to be sure: once the queue is longer than 6 s, whoever is admitted is late already. vLLM's "
        "own admission reserves the whole prompt, and is not as aggressive as those in the paper.",
    ),
    Claim(
        "p-pas",
        ("p-pas",),
        "A budget of 1,280 tokens where two prefills and a decode are there, else 16,384, lowers the mean "
        "latency by 17 % against a fixed one of 2,048.",
        "arXiv 2608.15171",
        "prompts of 16 to 131 thousand tokens on vLLM 0.27.1",
        "Mooncake-like conversations cut to 8,192 tokens, 8B",
        {
            "policy": ["fcfs", "p-pas"],
            "workload": "mooncake-conversation",
            "truncate": True,
            "max_num_batched_tokens": [2048, 16384],
            "request_rate": ["0.5x", "0.9x"],
            "duration": 150,
            "num_runs": 4,
        },
        (
            Check("p-pas, max_num_batched_tokens=16384", "fcfs, max_num_batched_tokens=2048", _LATENCY, 0.83),
            Check(
                "p-pas, max_num_batched_tokens=16384",
                "fcfs, max_num_batched_tokens=16384",
                _LATENCY,
                1.0,
                "beside",
            ),
        ),
        "The chunk of 16,384 tokens, which is for a lone prefill, holds a prompt of 8,192 as a whole and "
        "makes those who decode wait: 3 to 4 % slower than a budget of 2,048. Against a fixed budget of "
        "16,384 the rule gains up to 11 %. The paper's prompts are up to 16 times as long.",
    ),
)
