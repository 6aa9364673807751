"""The claims of papers about orders of requests, one a policy or more, in a line each."""

from __future__ import annotations

from typing import Any

from simsched.reproduce.claims.claim import Check, Claim

PER_TOKEN, TTFT, TTFT_99 = "mean_latency_per_token_ms", "mean_ttft_ms", "p99_ttft_ms"
LATENCY, LATENCY_99 = "mean_e2el_ms", "p99_e2el_ms"
LONGEST_WAIT = "p99_max_waiting_time_ms"
FIVE: dict[str, Any] = {"num_runs": 5, "duration": 120}
BELOW_AND_ABOVE = ["0.9x", "1.1x"]

_CONTROL = "ranking(starvation_threshold=200,starvation_period=10)"
_LAZY = "ranking(preemptive=false)"
_AGED = "sjf-aging(form=sglang,size=output,aging_tokens=20)"
_FORMS = tuple(f"sjf-aging(form={form})" for form in ("vllm", "trtllm", "trtllm-cached", "sglang", "ewsjf"))
_UNEVEN = "emulated(tau=0.5,uneven=0.4)"
_TIE = "tie(batch_size=32)"

ORDERS = (
    Claim(
        "starvation-control",
        ("ranking",),
        "Starvation control costs learned ranking less than 10 % of latency per token, and cuts the longest "
        "wait up to 3.4 times.",
        "Fu et al., NeurIPS 2024",
        "ShareGPT and LMSYS, Llama-3 8B and 70B, 2 to 64 req/s, a fork of vLLM 0.4.1 that swaps",
        "ShareGPT-like, 8B, vLLM V1, which recomputes",
        {
            "policy": ["ranking", _CONTROL],
            "workload": "sharegpt",
            "request_rate": [*BELOW_AND_ABOVE, "2x"],
            **FIVE,
        },
        (
            Check(_CONTROL, "ranking", PER_TOKEN, 1.1, "price"),
            Check(_CONTROL, "ranking", LONGEST_WAIT, 1 / 3.4, "somewhere"),
        ),
        "Up to 1.1 times the capacity hardly anybody waits for 200 steps, so it costs nothing; at twice the "
        "capacity most are promoted, and those who run make room for them and are computed again. The "
        "paper's fork swaps instead.",
    ),
    Claim(
        "sjf-aging",
        ("sjf-aging",),
        "SJF with aging raises the throughput under TTFT 500 ms and TPOT 50 ms by 6.2 % over FCFS; it "
        "lowers the median latency by 7.5 %.",
        "vLLM #29366; TensorRT-LLM #12428",
        "Qwen3-30B, prompts of 3,877 tokens on average, TP 4; DeepSeek-R1 on 8 GB200",
        "Azure conversations (1,153 tokens in), 8B, near the capacity and above",
        {
            "policy": ["fcfs", *_FORMS],
            "workload": "azure-conv",
            "request_rate": BELOW_AND_ABOVE,
            "goodput": "ttft:500,tpot:50",
            "num_runs": 5,
            "duration": 60,
        },
        (
            Check(_FORMS[0], "fcfs", "request_goodput", 1.062),
            Check(_FORMS[1], "fcfs", "median_e2el_ms", 0.925),
            Check(_FORMS[3], "fcfs", "request_goodput", 1.062, "beside"),
            Check(_FORMS[2], "fcfs", TTFT, 1.0, "beside"),
            Check(_FORMS[3], "fcfs", TTFT, 1.0, "beside"),
        ),
        "With a median of 32,768 tokens, prompts of a hundred and of two thousand tokens differ by 0.03 in "
        "the score, which 0.3 s of waiting outweigh: vllm and trtllm are close to first come, first served "
        "here. sglang and trtllm-cached, without such a scale, gain.",
    ),
    Claim(
        "ewsjf",
        ("sjf-aging",),
        "EWSJF raises the token throughput by 30 % over FCFS and lowers the TTFT of short requests up to 4 "
        "times.",
        "arXiv 2601.21758, vLLM #33392",
        "Llama-2-13B, A100, short queries mixed with long batch requests",
        "Azure conversations, 8B; the mean TTFT of all requests",
        {
            "policy": ["fcfs", _FORMS[4]],
            "workload": "azure-conv",
            "request_rate": BELOW_AND_ABOVE,
            "num_runs": 5,
            "duration": 60,
        },
        (
            Check(_FORMS[4], "fcfs", "output_throughput", 1.3),
            Check(_FORMS[4], "fcfs", TTFT, 0.25, "somewhere"),
        ),
        "The order of the queue does not change how many tokens a batch makes. vLLM batches continuously "
        "and cuts long prompts in chunks, so a short one does not wait for a long one to be computed; what "
        "is left to gain is the wait in the queue.",
    ),
    Claim(
        "aging-or-control",
        ("sjf-aging",),
        "Aging keeps the long from starving, at a lower price in latency per token than starvation control.",
        "what the proposals to vLLM, TensorRT-LLM and SGLang promise, against Fu et al., NeurIPS 2024",
        "not measured by any of them",
        "ShareGPT-like, 8B; both order by a predicted output length of tau 0.52",
        {
            "policy": [_LAZY, _CONTROL, _AGED],
            "workload": "sharegpt",
            "request_rate": ["1.1x", "2x"],
            **FIVE,
        },
        (
            Check(_AGED, _CONTROL, PER_TOKEN, 1.0),
            Check(_AGED, _LAZY, LONGEST_WAIT, 1.0),
            Check(_AGED, _CONTROL, LONGEST_WAIT, 1.0, "beside"),
            Check(_AGED, _LAZY, PER_TOKEN, 1.0, "beside"),
        ),
        "Control counts steps and evicts; aging by the clock only orders the queue, and loses no work. Its "
        "price against no aging is more than twice the latency per token at twice the capacity.",
    ),
    Claim(
        "uniboost",
        ("uniboost", "uniboost-guard"),
        "UniBoost, which predicts nothing, has a P99 latency 35 to 50 % below that of shortest remaining "
        "first with true lengths.",
        "ICML 2026, arXiv 2606.18431",
        "Azure's traces, reasoning and chat, with its own eviction rule (MemGuard)",
        "Azure conversations, 8B, the rule as its authors gave it to SGLang, and with an eviction rule "
        "after the paper's",
        {
            "policy": [
                "srtf",
                "fcfs",
                "uniboost",
                "uniboost(adaptive=true)",
                "uniboost(gamma=1)",
                "uniboost-guard",
            ],
            "workload": "azure-conv",
            "request_rate": [*BELOW_AND_ABOVE, "1.3x"],
            **FIVE,
        },
        (
            Check("uniboost", "srtf", LATENCY_99, 0.65),
            Check("uniboost(adaptive=true)", "srtf", LATENCY_99, 0.65),
            Check("uniboost-guard", "srtf", LATENCY_99, 0.65),
            Check("uniboost", "fcfs", LATENCY_99, 1.0, "beside"),
            Check("uniboost(gamma=1)", "fcfs", LATENCY_99, 1.0, "beside"),
            Check("uniboost-guard", "uniboost", LATENCY_99, 1.0, "beside"),
        ),
        "The P99 is that of first come, first served, to 1 %. What has the better tail than shortest "
        "remaining first is the order of arrival: at 64 us a token a boost is a few tenths of a second, "
        "little beside waits of seconds. The eviction rule (uniboost-guard) changes nothing, for blocks "
        "hardly ever run short here.",
    ),
    Claim(
        "tie",
        ("tie",),
        "TIE's latency per token is 2.31 times lower than learned ranking's at 100 req/s.",
        "ICML 2026, arXiv 2604.00499",
        "LMSYS, batches of 32, vLLM 0.11; learned ranking as a queue that is not preemptive",
        "LMSYS-like at 100 req/s for 20 s, 8B, 32 at a time; half of the lengths are known well (tau 0.9), "
        "half badly (0.1); ranking sorts by the mean of the distribution that TIE reads",
        {
            "policy": [_LAZY, "ranking", _TIE, "tie(batch_size=32,beta=0)", "gittins(preemptive=false)"],
            "workload": "lmsys",
            "predictor": _UNEVEN,
            "request_rate": [100],
            "max_num_seqs": 32,
            "duration": 20,
            "num_runs": 5,
        },
        (
            Check(_TIE, _LAZY, PER_TOKEN, 1 / 2.31),
            Check(_TIE, "tie(batch_size=32,beta=0)", PER_TOKEN, 1.0, "beside"),
            Check("gittins(preemptive=false)", _LAZY, PER_TOKEN, 1.0, "beside"),
            Check(_TIE, _LAZY, LATENCY, 1.0, "beside"),
        ),
        "The penalty puts off requests that may well be short: where half of the lengths are hardly known, "
        "TIE's latency per token rises by a quarter, and that of the index that rewards the chance to be "
        "done soon (gittins) falls by an eighth. Where all lengths are known equally well, mean and tail "
        "sort alike, and there is nothing to gain. The paper's ranker may have been worse than its "
        "distribution; here both know the same.",
    ),
    Claim(
        "gittins",
        ("gittins",),
        "Where lengths are known in distribution only, the Gittins index has a lower mean latency than any "
        "order by the expected length.",
        "Gittins, 1979; Aalto et al., 2009, for one server",
        "theory: one server, one request at a time",
        "LMSYS-like, 8B, 48 at a time; half of the lengths are known well (tau 0.9), half badly (0.1)",
        {
            "policy": ["srtf", "ranking", "gittins", "fcfs"],
            "workload": "lmsys",
            "predictor": _UNEVEN,
            "max_num_seqs": 48,
            "request_rate": [*BELOW_AND_ABOVE, "2x"],
            **FIVE,
        },
        (
            Check("gittins", "srtf", LATENCY, 1.0),
            Check("gittins", "ranking", LATENCY, 1.0),
            Check("gittins", "srtf", PER_TOKEN, 1.0, "beside"),
        ),
        "The theorem is of one server. In a batch of 48 the mean latency is that of the decoding, and the "
        "order adds little; on latency per token, where short answers count, the index gains 39 % at twice "
        "the capacity.",
    ),
    Claim(
        "sagesched",
        ("sagesched",),
        "SageSched lowers the mean latency by 28.7 % against schedulers that know less of uncertainty or "
        "memory.",
        "arXiv 2603.07917",
        "Llama-3.1-8B and Qwen on vLLM, distributions from similar prompts of the past",
        "ShareGPT-like, 8B; half of the lengths are known well (tau 0.9), half badly (0.1)",
        {
            "policy": ["fcfs", "ranking", "srtf", "gittins", "sagesched"],
            "workload": "sharegpt",
            "predictor": _UNEVEN,
            "request_rate": [*BELOW_AND_ABOVE, "2x"],
            **FIVE,
        },
        (
            Check("sagesched", "ranking", LATENCY, 0.713),
            Check("sagesched", "fcfs", LATENCY, 0.713),
            Check("sagesched", "gittins", LATENCY, 1.0, "beside"),
        ),
        "The cost is no better than the length itself (gittins), for the KV cache is not what is short "
        "here. Below the capacity FCFS is 5 % faster than any policy with a predictor of 1.3 ms a request; "
        "without that time they are equal.",
    ),
    Claim(
        "trail",
        ("trail",),
        "Preemption in the first 0.8 of an answer gives a lower mean latency than none (c = 0) and than "
        "more (c = 1), and one 1.66 times lower than FCFS.",
        "ICLR 2025, arXiv 2410.01035; its authors' port to SGLang sets c = 0",
        "Alpaca, Llama-3-8B, 48 running requests, 10 to 30 req/s",
        "LMSYS-like (85 in, 293 out), 8B, 48 at a time, near the capacity and above; distributions of tau "
        "0.64",
        {
            "policy": ["fcfs", "trail(c=0)", "trail(c=0.2)", "trail", "trail(c=1)", "trail(c=1000)"],
            "workload": "lmsys",
            "predictor": "emulated(tau=0.64)",
            "max_num_seqs": 48,
            "request_rate": ["0.95x", "1.2x", "2x"],
            **FIVE,
        },
        (
            Check("trail", "trail(c=0)", LATENCY, 1.0),
            Check("trail", "trail(c=1)", LATENCY, 1.0),
            Check("trail", "fcfs", LATENCY, 1 / 1.66),
            Check("trail(c=0)", "fcfs", LATENCY, 1 / 1.66, "beside"),
            Check("trail(c=0)", "trail(c=1000)", LATENCY, 1.0, "beside"),
            Check("trail", "trail(c=0)", PER_TOKEN, 1.0, "beside"),
        ),
        "The order is what gains on FCFS, with c = 0 too. Preemption is worth 1 or 2 % of the mean latency "
        "and 4 to 11 % of the latency per token; between c = 0.8 and more there is no difference, for few "
        "are displaced late. So the port's c = 0 gives up little.",
    ),
    Claim(
        "elis",
        ("elis",),
        "ELIS lowers the mean latency by up to 19.6 % against FCFS.",
        "arXiv 2505.09142",
        "LMSYS, five models, requests as in a company's trace",
        "LMSYS-like, 8B, 48 at a time; distributions of tau 0.64",
        {
            "policy": ["fcfs", "elis", "srtf"],
            "workload": "lmsys",
            "predictor": "emulated(tau=0.64)",
            "max_num_seqs": 48,
            "request_rate": ["0.95x", "1.2x"],
            **FIVE,
        },
        (
            Check("elis", "fcfs", LATENCY, 0.804, "somewhere"),
            Check("elis", "srtf", LATENCY, 1.0, "beside"),
        ),
        "Above the capacity. Below it hardly anybody waits, and any order is the same.",
    ),
)
