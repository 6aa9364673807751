"""How good a ranker is, and what of that a scheduler feels.

Kendall's tau counts every pair of requests alike; a queue does not. `order_regret` weighs a pair that is
served in the wrong order by what it costs, on one server that works through the predicted order: 0 for the
order of the true lengths, 1 for a random one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from simsched.workload.trace import FloatArray, IntArray

RESAMPLES = 300
BATCH_SIZES = (32, 256)  # a training list of the paper, and vLLM's running batch
_TIMED = {1: 32, 32: 256}  # batch size: prompts timed at most


class Predicts(Protocol):
    """What is timed: raw outputs of prompts."""

    def outputs(self, prompts: Sequence[str], batch_size: int = ...) -> FloatArray: ...


def tau_b(scores: FloatArray, lengths: FloatArray) -> float:
    """Kendall's tau-b; 0 where either is constant (there is no order to agree with)."""
    from scipy.stats import kendalltau

    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(lengths) == 0:
        return 0.0
    return float(kendalltau(scores, lengths).statistic)


def tau_interval(
    scores: FloatArray, lengths: FloatArray, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile-bootstrap interval of tau-b over requests."""
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    n = len(scores)
    draws = np.empty(resamples)
    for i in range(resamples):
        rows = generator.integers(0, n, n)
        draws[i] = tau_b(scores[rows], lengths[rows])
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def judge(
    columns: Mapping[str, Any],
    lengths: FloatArray,
    bounds: IntArray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Every measure of one set of predictions (`score`, `predicted_class`, `predicted_length`, each (n,))."""
    score, length, classes = columns["score"], columns["predicted_length"], columns["predicted_class"]
    true_classes = np.searchsorted(bounds, lengths, side="left")
    return {
        "n": len(lengths),
        "kendall_tau": tau_b(score, lengths),
        "kendall_tau_ci": list(tau_interval(score, lengths, seed, resamples)),
        "spearman": spearman(score, lengths),
        "class_tau": tau_b(classes, lengths),
        "class_accuracy": float((classes == true_classes).mean()),
        "class_accuracy_of_the_commonest": float(np.bincount(true_classes).max() / len(lengths)),
        "num_classes": len(bounds) + 1,
        "length_mae_tokens": float(np.abs(length - lengths).mean()),
        **_coverage(columns.get("length_quantiles"), lengths),
        "length_bias_tokens": float((length - lengths).mean()),
        "batch_tau": {str(size): batch_tau(score, lengths, size, seed) for size in BATCH_SIZES},
        "regions": regions(score, lengths),
        "regret_latency": order_regret(score, lengths, per_token=False),
        "regret_latency_per_token": order_regret(score, lengths, per_token=True),
    }


def _coverage(quantiles: FloatArray | None, lengths: FloatArray) -> dict[str, Any]:
    """Of a predicted distribution: how many true lengths are no longer than its 10, 50 and 90 % quantiles."""
    if quantiles is None:
        return {}
    levels = (np.arange(quantiles.shape[1]) + 0.5) / quantiles.shape[1]
    at = {level: np.array([np.interp(level, levels, row) for row in quantiles]) for level in (0.1, 0.5, 0.9)}
    return {"coverage": {f"{level:g}": float((lengths <= tokens).mean()) for level, tokens in at.items()}}


def spearman(scores: FloatArray, lengths: FloatArray) -> float:
    """Spearman's rank correlation; 0 where either is constant."""
    from scipy.stats import spearmanr

    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(lengths) == 0:
        return 0.0
    return float(spearmanr(scores, lengths).statistic)


def batch_tau(scores: FloatArray, lengths: FloatArray, size: int, seed: int) -> dict[str, float]:
    """Mean and lowest decile of tau-b inside random batches of `size`; one short batch where n is less."""
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(scores))
    batches = np.array_split(order, max(1, len(order) // size))
    taus = [tau_b(scores[rows], lengths[rows]) for rows in batches]
    return {"mean": float(np.mean(taus)), "p10": float(np.quantile(taus, 0.1))}


def regions(scores: FloatArray, lengths: FloatArray) -> dict[str, dict[str, float]]:
    """Where the error sits: by thirds of the true length, tau-b inside, and the mean shift in rank.

    `rank_shift` is the mean of predicted minus true rank, in shares of n: above 0 the third is served too
    late, below 0 too early. `displacement` is the mean of its absolute value (random order: about 1/3).
    """
    true_rank, rank = _mid_ranks(lengths), _mid_ranks(scores)
    result = {}
    for i, name in enumerate(("shortest", "middle", "longest")):
        inside = (true_rank >= i / 3) & (true_rank < (i + 1) / 3)
        shift = rank[inside] - true_rank[inside]
        result[name] = {
            "n": int(inside.sum()),
            "kendall_tau": tau_b(scores[inside], lengths[inside]),
            "rank_shift": float(shift.mean()) if len(shift) else 0.0,
            "displacement": float(np.abs(shift).mean()) if len(shift) else 0.0,
        }
    return result


def order_regret(scores: FloatArray, lengths: FloatArray, *, per_token: bool) -> float:
    """(cost of the predicted order - best) / (cost of a random order - best), on one sequential server.

    The cost is the sum of finish times (latency), or of finish time / own length (latency per token), all
    requests there at the start. Each pair served longer first costs L_long - L_short more of the first,
    and L_long / L_short - L_short / L_long of the second. Equal scores count as half in either order.
    """
    weight = 1.0 / lengths if per_token else np.ones_like(lengths)

    def cost(keys: FloatArray) -> float:
        _, group = np.unique(keys, return_inverse=True)
        work = np.bincount(group, lengths)
        before = np.concatenate(([0.0], np.cumsum(work)[:-1]))
        # of its own tie a request waits for half of the others on average
        wait = before[group] + (work[group] - lengths) / 2
        return float((weight * wait).sum())

    best, random = cost(lengths), cost(np.zeros_like(lengths))
    return (cost(scores) - best) / (random - best) if random > best else 0.0


def ceiling(samples: Mapping[str, FloatArray], lengths: FloatArray) -> dict[str, float]:
    """tau-b of other samples of the same prompts with `lengths`: each alone, and their geometric mean."""
    taus = {name: tau_b(values, lengths) for name, values in samples.items()}
    if len(samples) > 1:
        mean = np.mean([np.log(values) for values in samples.values()], axis=0)
        taus["geometric mean"] = tau_b(mean, lengths)
    return taus


def time_per_prompt(model: Predicts, prompts: Sequence[str]) -> dict[str, float]:
    """Seconds a prompt at batch sizes 1 and 32: each batch at its quickest of three, all batches' mean.

    What makes one of three runs slower is other work on the machine, not the prompts.
    """
    seconds = {}
    for size, most in _TIMED.items():
        chosen = prompts[:most]
        total = 0.0
        for start in range(0, len(chosen), size):
            batch = chosen[start : start + size]
            total += min(_time(model, batch, size) for _ in range(3))
        seconds[str(size)] = total / len(chosen)
    return seconds


def _time(model: Predicts, batch: Sequence[str], size: int) -> float:
    began = time.perf_counter()
    model.outputs(batch, batch_size=size)
    return time.perf_counter() - began


def _mid_ranks(values: FloatArray) -> FloatArray:
    from scipy.stats import rankdata

    ranks: FloatArray = (rankdata(values) - 0.5) / len(values)
    return ranks
