"""The published numbers, as facts.

[P] "Efficient LLM Scheduling by Learning to Rank", Fu et al., NeurIPS 2024 (arXiv 2408.15792).
[R] anshsarkar/vllm-ltr-sched, an independent reproduction on one A100: first trial, per-rate means
    (`rep-sharegpt.csv`); also the source of figure 3's digitised points.
"""

from __future__ import annotations

import csv
from importlib import resources

POLICIES = ("fcfs", "mlfq", "po", "classification", "ranking")

# [P] table 1: burst of 2,000; latency per token in s, (mean, P90), by `POLICIES`
TABLE1: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("8b", "sharegpt"): ((1.15, 1.60), (1.07, 1.57), (1.35, 1.67), (1.13, 1.51), (0.56, 0.67)),
    ("8b", "lmsys"): ((1.73, 4.86), (0.80, 1.56), (0.75, 1.47), (1.77, 4.98), (0.38, 0.52)),
    ("70b", "sharegpt"): ((1.44, 2.01), (1.37, 1.89), (1.04, 1.35), (1.26, 1.73), (0.78, 0.96)),
    ("70b", "lmsys"): ((2.17, 5.54), (1.00, 1.91), (0.95, 1.72), (2.23, 5.72), (0.54, 0.82)),
}

SDG_POLICIES = ("fcfs", "classification", "ranking")
# [P] table 2: 10,000 requests at once; seconds to 1,000 finished and finished in 5 minutes, by `SDG_POLICIES`
TABLE2: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("8b", "sharegpt"): ((343.29, 841), (421.92, 655), (143.18, 1706)),
    ("8b", "lmsys"): ((197.38, 1348), (237.40, 1644), (30.48, 4434)),
    ("70b", "sharegpt"): ((440.71, 670), (512.84, 479), (231.59, 1299)),
    ("70b", "lmsys"): ((253.68, 1167), (338.83, 895), (59.67, 3710)),
}

# [P] table 3, 70B: (policy, tau, latency per token in the burst, seconds to 1,000 finished)
TABLE3: dict[str, tuple[tuple[str, float, float, float | None], ...]] = {
    "sharegpt": (
        ("optimal prediction", 0.74, 0.46, 102.04),
        ("ranking", 0.54, 0.78, 231.59),
        ("classification", 0.24, 1.26, 512.84),
        ("classification(num_buckets=82)", 0.49, 0.84, 265.91),
        ("classification(num_buckets=820)", 0.46, 0.86, 272.13),
        ("classification(num_buckets=8192)", 0.32, 1.00, 341.63),
        ("po", 0.51, 1.04, None),  # more than 600 s
    ),
    "lmsys": (
        ("optimal prediction", 0.84, 0.34, 34.60),
        ("ranking", 0.62, 0.54, 59.67),
        ("classification", 0.17, 2.23, 338.83),
        ("classification(num_buckets=82)", 0.58, 0.77, 101.61),
        ("classification(num_buckets=820)", 0.57, 0.61, 78.84),
        ("classification(num_buckets=8192)", 0.50, 0.68, 92.93),
        ("po", 0.67, 0.95, 322.13),
    ),
}

RATES = (8, 16, 32, 64)
# [P] figure 3, 8B: mean latency per token in s at `RATES`, by workload and policy; digitised by [R]
FIGURE3: dict[str, dict[str, tuple[float, ...]]] = {
    "sharegpt": {
        "fcfs": (0.113, 0.484, 1.484, 3.935),
        "mlfq": (0.097, 0.290, 0.823, 2.677),
        "po": (0.113, 0.371, 1.016, 2.677),
        "classification": (0.129, 0.371, 1.242, 3.226),
        "ranking": (0.097, 0.242, 0.613, 1.581),
    },
    "lmsys": {
        "fcfs": (0.092, 0.460, 1.885, 5.609),
        "mlfq": (0.069, 0.161, 0.345, 1.264),
        "po": (0.092, 0.184, 0.460, 1.517),
        "classification": (0.184, 0.161, 0.575, 3.333),
        "ranking": (0.069, 0.138, 0.322, 0.782),
    },
}

# [P] predictor's share of the mean latency in the burst, %
OVERHEAD = {
    ("8b", "lmsys"): 1.11,
    ("8b", "sharegpt"): 0.81,
    ("70b", "lmsys"): 1.69,
    ("70b", "sharegpt"): 1.16,
}
# [P] the largest cut of the mean max_waiting_time by starvation control, 70B
STARVATION_CUT = {"sharegpt": 3.3, "lmsys": 3.4}
# [P] mean latency with the shortest 70 % shuffled over that with the longest 70 % shuffled, tau 0.5 both
SHUFFLE_RATIO = 1.8

METRICS = (
    "mean_ttft_ms",
    "mean_tpot_ms",
    "mean_latency_per_token_ms",
    "p90_latency_per_token_ms",
    "p99_latency_per_token_ms",
)


def rep_rows() -> list[tuple[str, float, dict[str, float]]]:
    """[R]: (policy, request rate, metrics in ms) of ShareGPT."""
    source = resources.files("simsched.reproduce").joinpath("rep-sharegpt.csv")
    table = csv.DictReader(source.read_text(encoding="utf-8").splitlines())
    return [
        (row["policy"], float(row["request_rate"]), {name: float(row[name]) for name in METRICS})
        for row in table
    ]
