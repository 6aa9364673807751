"""The report's first sentence says what the table of its metric says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from simsched.compare import compare
from simsched.compare.headline import first_sentence
from simsched.compare.text import hidden_text, order_text
from tests.fake_results import make_results

BASE = [1.0, 1.1, 1.2]
VALUES = {  # of the metric in three runs, where more is worse
    "fcfs": BASE,
    "worse": [1.3 * value * wobble for value, wobble in zip(BASE, (1.0, 1.01, 0.99), strict=True)],
    "worst": [2 * value * wobble for value, wobble in zip(BASE, (1.0, 1.01, 0.99), strict=True)],
    "better": [0.5 * value * wobble for value, wobble in zip(BASE, (1.0, 1.01, 0.99), strict=True)],
    "best": [0.4 * value * wobble for value, wobble in zip(BASE, (1.0, 1.01, 0.99), strict=True)],
    "noisy": [value * wobble for value, wobble in zip(BASE, (0.9, 1.1, 0.95), strict=True)],
    "near": [1.002 * value * wobble for value, wobble in zip(BASE, (1.0, 1.0001, 0.9999), strict=True)],
    "same": BASE,
}
WHERE = "at 2 req/s"
LABEL = "mean latency per token"
SURE = "(3 runs, 95 %)"


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ("worse", f"Run fcfs: {WHERE}, no other arm has a better {LABEL} {SURE}. "
                  "Worse: worse (1.30 times higher [1.27, 1.33])."),
        ("worse worst", f"Run fcfs: {WHERE}, no other arm has a better {LABEL} {SURE}. "
                        "Worse: worse and worst (1.300 to 2.000 times higher)."),
        ("noisy", f"Nothing to choose: {WHERE}, no arm's {LABEL} can be told from that of fcfs {SURE}."),
        ("same", f"Nothing to choose: {WHERE}, no arm's {LABEL} differs from that of fcfs {SURE}."),
        ("near", f"Nothing to choose: {WHERE}, no arm's {LABEL} differs by 0.5 % from that of fcfs {SURE}."),
        ("near noisy",
         f"Nothing to choose: {WHERE}, no arm's {LABEL} surely differs by 0.5 % from that of fcfs {SURE}."),
        ("noisy worse", f"fcfs is as good as any: {WHERE}, no arm's {LABEL} is surely better {SURE}. "
                        "Not told from it: noisy. Worse: worse (1.30 times higher [1.27, 1.33])."),
        ("near worse", f"fcfs is as good as any: {WHERE}, no arm's {LABEL} is better by 0.5 % {SURE}. "
                       "Within 0.5 % of it: near. Worse: worse (1.30 times higher [1.27, 1.33])."),
        ("same worse", f"fcfs is as good as any: {WHERE}, no arm's {LABEL} is better {SURE}. "
                       "The same: same. Worse: worse (1.30 times higher [1.27, 1.33])."),
        ("better",
         f"Run better: {WHERE}, its {LABEL} is 2.00 times lower [1.95, 2.05] than that of fcfs {SURE}."),
        ("better worse noisy same",
         f"Run better: {WHERE}, its {LABEL} is 2.00 times lower [1.95, 2.05] than that of fcfs {SURE}."),
        ("better best worst",
         f"Run best: {WHERE}, its {LABEL} is 2.50 times lower [2.44, 2.56] than that of fcfs {SURE}."),
    ],
)  # fmt: skip
def test_arms_that_are_worse_better_or_tied(tmp_path: Path, arms: str, expected: str) -> None:
    results = make_results(
        tmp_path / "out", policies=("fcfs", *arms.split()), rates=(1.0, 2.0), n=5,
        metrics=lambda policy, rate, run: {"mean_latency_per_token_ms": VALUES[policy][run]},
    )  # fmt: skip
    assert first_sentence(compare(results, "fcfs")) == expected


def test_who_leaves_requests_unfinished_cannot_win(tmp_path: Path) -> None:
    results = make_results(
        tmp_path / "out", policies=("fcfs", "worse", "best"), rates=(1.0, 2.0), unfinished={"best": 1}, n=5,
        metrics=lambda policy, rate, run: {"mean_latency_per_token_ms": VALUES[policy][run]},
    )  # fmt: skip
    sentence = first_sentence(compare(results, "fcfs"))
    assert sentence.startswith("Run fcfs: ")
    assert sentence.endswith("Cannot win, with requests unfinished: best.")


def test_rounding_noise_is_no_order(tmp_path: Path) -> None:
    """Values that are equal but for the last bit of a sum: one place, and no tau."""
    noise = {"fcfs": 1.0, "sjf": 1.0 + 2e-16 * 3, "srtf": 1.0 - 2e-16}
    results = make_results(
        tmp_path / "out", policies=("fcfs", "sjf", "srtf"), rates=(2.0,), n=5,
        metrics=lambda policy, rate, run: {
            "mean_latency_per_token_ms": {"fcfs": 3.0, "sjf": 2.0, "srtf": 1.0}[policy],
            "mean_tpot_ms": noise[policy],
        },
    )  # fmt: skip
    comparison = compare(results, "fcfs", metrics=["mean_latency_per_token_ms", "mean_tpot_ms"])
    assert order_text(comparison, 0, "mean_tpot_ms") == "fcfs = sjf = srtf"
    assert math.isnan(comparison.taus()[0, "mean_tpot_ms"])


@pytest.mark.parametrize(
    ("slowdown", "hits", "said"), [(0.93, 0.5, True), (1.02, 0.5, False), (0.999, 0.0, False)]
)
def test_a_slowdown_below_1_is_explained(tmp_path: Path, slowdown: float, hits: float, said: bool) -> None:
    results = make_results(
        tmp_path / "out", policies=("fcfs", "sjf"), rates=(2.0,), n=5,
        metrics=lambda policy, rate, run: {"mean_slowdown": slowdown, "prefix_cache_hit_rate": hits},
    )  # fmt: skip
    assert ("A slowdown below 1" in hidden_text(compare(results), 0)) == said
