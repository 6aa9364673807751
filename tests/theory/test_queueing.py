"""With one slot and a flat cost the engine is a single-server queue, and queueing theory says what comes out.

A step takes `STEP` seconds whatever is in it and yields one token, a resumed request's recomputing step too,
so a request of n output tokens is a job of n * STEP seconds, preempted at no cost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import stats

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from simsched.record import RunRecord
from simsched.workload.trace import Trace

STEP = 0.01
FLAT = LinearCost(t0=STEP, a=0.0, b=0.0, c=0.0, d=0.0)
PROMPT = 8
Formula = Callable[[float, np.ndarray], float]


def jobs(n: int, load: float, seed: int, *, mean: float = 100.0) -> Trace:
    """M/G/1 input: Poisson arrivals, log-normal lengths of `mean` steps on average."""
    rng = np.random.default_rng(seed)
    lengths = np.maximum(1, rng.lognormal(np.log(mean) - 0.5 * 0.7**2, 0.7, n)).astype(np.int64)
    rate = load / (lengths.mean() * STEP)
    return Trace(
        arrival_time=np.cumsum(rng.exponential(1 / rate, n)),
        num_prompt_tokens=np.full(n, PROMPT, dtype=np.int64),
        num_output_tokens=lengths,
    )


def run(trace: Trace, policy_spec: str, *, slots: int = 1, leap: bool = True, step_log=None) -> RunRecord:
    config = engine_config(
        max_num_seqs=slots,
        max_num_batched_tokens=4096,
        num_gpu_blocks=100_000,
        max_model_len=4096,
    )
    policy = make_policy(policy_spec)
    trace, _ = apply_predictor(None, policy, trace, seed=0, tau=None)
    return simulate(trace, policy, FLAT, config, leap=leap, step_log=step_log)


def services(trace: Trace) -> np.ndarray:
    return trace.num_output_tokens * STEP


def latencies(record: RunRecord) -> np.ndarray:
    assert record.finished.all()
    return record.finish_time - record.arrival_time


@pytest.mark.parametrize("leap", [True, False])
def test_fcfs_is_lindleys_recursion(leap: bool) -> None:
    trace = jobs(400, 0.8, seed=1, mean=20)
    record = run(trace, "fcfs", leap=leap)
    finish, last = [], 0.0
    for arrival, service in zip(trace.arrival_time, services(trace), strict=True):
        last = max(arrival, last) + service
        finish.append(last)
    np.testing.assert_allclose(record.finish_time, finish, rtol=1e-9)


def pollaczek_khinchine(rate: float, service: np.ndarray) -> float:
    """Mean latency of M/G/1 first come, first served."""
    load = rate * service.mean()
    return float(rate * (service**2).mean() / (2 * (1 - load)) + service.mean())


def classes(rate: float, service: np.ndarray) -> tuple[np.ndarray, ...]:
    """The distinct service times, rising: (times, shares, load of those up to each, load of those below)."""
    values, counts = np.unique(service, return_counts=True)
    share = counts / counts.sum()
    load = np.cumsum(rate * share * values)
    return values, share, load, np.concatenate([[0.0], load[:-1]])


def cobham(rate: float, service: np.ndarray) -> float:
    """Mean latency under non-preemptive priorities, the shortest job first."""
    _, share, load, shorter = classes(rate, service)
    residual = rate * (service**2).mean() / 2
    return float(np.sum(share * residual / ((1 - shorter) * (1 - load))) + service.mean())


def schrage_miller(rate: float, service: np.ndarray) -> float:
    """Mean latency under the shortest remaining time first."""
    values, share, load, shorter = classes(rate, service)
    second = np.cumsum(rate * share * values**2)
    longer = 1 - np.cumsum(share)
    # those of its own length go first if they came first
    waiting = (second + rate * longer * values**2) / (2 * (1 - load) * (1 - shorter))
    # a job shrinks from its own length to zero among ever shorter rivals
    shrinking = np.cumsum(np.diff(values, prepend=0.0) / (1 - shorter))
    return float(np.sum(share * (waiting + shrinking)))


FORMULAS = {"fcfs": pollaczek_khinchine, "sjf": cobham, "srtf": schrage_miller}


@cache
def simulated(policy: str) -> list[tuple[float, float, np.ndarray]]:
    """Independent runs at a load of 0.7: (mean latency, arrival rate, service times)."""
    runs = []
    for seed in range(16):
        trace = jobs(6_000, 0.7, seed)
        rate = len(trace) / trace.arrival_time[-1]
        runs.append((float(latencies(run(trace, policy)).mean()), rate, services(trace)))
    return runs


def error_interval(policy: str, formula: Formula) -> tuple[float, float]:
    """99.9 % interval of the mean of simulated / theory - 1.

    Theory is evaluated on each run's own arrival rate and lengths, which removes most of the noise.
    """
    errors = [mean / formula(rate, service) - 1 for mean, rate, service in simulated(policy)]
    low, high = stats.t.interval(0.999, len(errors) - 1, loc=np.mean(errors), scale=stats.sem(errors))
    return float(low), float(high)


@pytest.mark.parametrize("policy", FORMULAS)
def test_mean_latency_is_that_of_theory(policy: str) -> None:
    """Pollaczek-Khinchine, Cobham, and Schrage-Miller; and each formula holds for its own policy alone."""
    low, high = error_interval(policy, FORMULAS[policy])
    # steps are discrete: half of one, of a mean latency of about two hundred
    assert low - 0.005 <= 0 <= high + 0.005, (low, high)
    for other, formula in FORMULAS.items():
        low, high = error_interval(policy, formula)
        assert other == policy or not low - 0.05 <= 0 <= high + 0.05, (other, low, high)


def test_littles_law() -> None:
    trace = jobs(600, 0.8, seed=5, mean=50)
    area = 0.0

    def log(step: dict) -> None:
        nonlocal area
        area += (step["num_running"] + step["num_waiting"]) * step["step_time"]

    record = run(trace, "fcfs", slots=3, leap=False, step_log=log)
    # the log first sees a request at the step after its arrival
    seen = latencies(record).sum()
    assert area == pytest.approx(seen, abs=len(trace) * STEP)
    assert area == pytest.approx(seen, rel=0.02)


def test_order_of_policies_when_slots_bind() -> None:
    trace = jobs(4_000, 0.95, seed=2)
    trace = trace.with_columns(arrival_time=trace.arrival_time / 4)  # four slots: the same load
    means = [latencies(run(trace, policy, slots=4)).mean() for policy in ("srtf", "sjf", "fcfs", "ljf")]
    assert means == sorted(means), dict(zip(("srtf", "sjf", "fcfs", "ljf"), means, strict=True))
