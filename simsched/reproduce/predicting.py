"""Which predictor stands in for the published one, and from where its quality is known."""

from __future__ import annotations

from simsched.reproduce.outcome import Sources
from simsched.reproduce.settings import System

# Not published, so taken from one row each, that at 16 req/s; those cells are marked, and are no predictions.
PO_TAU_8B = 0.2
"""How well Llama-3-8B guesses its own length on ShareGPT (70B: 0.51)."""
OTHER_CLASSIFIERS_TAU = 0.25
"""Tau of the hidden score of the reproduction's classifiers with other buckets."""
INFERRED = "used for the predictor's tau, which is not published"

RANKING_SAMPLE_TAU = 0.517  # of the rank scores in the real joint sample
TAU_70B = {
    "sharegpt": {"ranking": 0.54, "classification": 0.65, "po": 0.51},
    "lmsys": {"ranking": 0.62, "classification": 0.62, "po": 0.67},
}
"""[P] table 3; a classifier's is that of the score under its classes (0.65 gives classes of tau 0.24)."""


def predictor(sources: Sources, policy: str, workload: str, system: System) -> str | None:
    """The `--predictor` of this policy; None: the named workload's published tau."""
    name = policy.partition("(")[0]
    if name in ("fcfs", "mlfq"):
        return None
    if system == "70b":
        return f"emulated(tau={TAU_70B[workload][name]})"
    if workload != "sharegpt":
        return None
    if name == "po":
        return f"emulated(tau={PO_TAU_8B})"
    if policy in ("classification(num_buckets=82)", "classification(buckets=percentile)"):
        return f"emulated(tau={OTHER_CLASSIFIERS_TAU})"
    if sources.sample is not None:
        return f"empirical(file={sources.sample})"
    return f"emulated(tau={RANKING_SAMPLE_TAU})" if name == "ranking" else None


def source(sources: Sources) -> str:
    """Which predictors stand behind ranking and classification on ShareGPT, in a sentence."""
    if sources.sample is not None:
        return (
            "Ranking and the 10-bucket classifier on ShareGPT (8B) use the reproduction's own predictions: "
            "960 real (length, class, rank score) triples, resampled."
        )
    return (
        "No outside data: ranking on ShareGPT (8B) is emulated with the published tau of "
        f"{RANKING_SAMPLE_TAU}, the classifier so that its classes have tau 0.21. `--data DIR` or "
        "$SIMSCHED_DATA with rep26/sharegpt_r16.csv uses the real joint sample."
    )
