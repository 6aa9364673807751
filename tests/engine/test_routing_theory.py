"""Known results of queueing theory come out behind the routers."""

from __future__ import annotations

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.routers.spec import make_router
from simsched.workload.trace import Trace

# One slot a replica, and a step takes 10 ms whatever is in it: an answer of n tokens is n steps of service.
STEP = 0.01
COST = LinearCost(t0=STEP, a=0.0, b=0.0, c=0.0, d=0.0)
ONE_SLOT = engine_config(max_num_seqs=1, num_gpu_blocks=5000, max_model_len=50_000)
SERVERS, MEAN = 8, 50  # tokens


def requests(count: int, load: float, seed: int) -> Trace:
    """Poisson arrivals, geometric answers (exponential service) with prompts of one token."""
    rng = np.random.default_rng(seed)
    rate = load * SERVERS / (MEAN * STEP)
    outputs = rng.geometric(1 / MEAN, count)
    return Trace(
        arrival_time=np.cumsum(rng.exponential(1 / rate, count)),
        num_prompt_tokens=np.ones(count, dtype=np.int64),
        num_output_tokens=outputs.astype(np.int64),
    )


def run(trace: Trace, router: str) -> RunRecord:
    return simulate(
        trace, make_policy("fcfs"), COST, ONE_SLOT, num_replicas=SERVERS, router=make_router(router)
    )


def waits(record: RunRecord) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return record.first_scheduled_time - record.arrival_time


def erlang_c_wait(load: float) -> float:
    """Mean wait of M/M/n in seconds (Erlang C)."""
    offered = load * SERVERS
    terms = [1.0]
    for k in range(1, SERVERS + 1):
        terms.append(terms[-1] * offered / k)
    last = terms[-1] / (1 - load)
    probability = last / (sum(terms[:-1]) + last)
    return probability * MEAN * STEP / (SERVERS * (1 - load))


def test_the_least_true_work_comes_near_one_queue_for_all() -> None:
    """Sending each request where it will begin first is M/M/n's order of service."""
    load = 0.85
    found = np.mean([waits(run(requests(10_000, load, seed), "oracle-work")).mean() for seed in range(3)])
    expected = erlang_c_wait(load)
    assert found == pytest.approx(expected, rel=0.15)


def test_two_choices_are_much_better_than_one_and_not_much_worse_than_all() -> None:
    trace = requests(20_000, 0.85, 5)
    p99 = {
        router: float(np.quantile(waits(run(trace, router)), 0.99))
        for router in ("random", "power-of-two", "least-requests", "oracle-work")
    }
    assert p99["oracle-work"] < p99["least-requests"] < p99["power-of-two"] < 0.6 * p99["random"]


def test_the_shortest_queue_is_insensitive_to_how_service_varies() -> None:
    """With processor sharing (here: a step is longer by each request in it) join-shortest-queue's mean
    depends on the mean of the service alone, nearly (Gupta et al. 2007)."""
    sharing = LinearCost(t0=1e-9, a=1e-9, b=STEP, c=0.0, d=0.0)
    config = engine_config(max_num_seqs=200, num_gpu_blocks=60_000, max_model_len=50_000)
    rng = np.random.default_rng(1)
    count, mean = 12_000, 40
    arrivals = np.cumsum(rng.exponential(mean * STEP / (4 * 0.7), count))
    lengths = {
        "all alike": np.full(count, mean),
        "geometric": rng.geometric(1 / mean, count),
        "most short, few long": np.where(rng.random(count) < 0.1, 310, 10),
    }
    times = []
    for outputs in lengths.values():
        trace = Trace(arrivals, np.ones(count, dtype=np.int64), outputs.astype(np.int64))
        record = simulate(
            trace, make_policy("fcfs"), sharing, config, num_replicas=4, router=make_router("least-requests")
        )
        times.append((record.finish_time - record.arrival_time).mean() / outputs.mean())
    assert max(times) < 1.15 * min(times)
