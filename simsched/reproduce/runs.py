"""One simulated run of a study, and running many of them in processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simsched.bounds import lower_bounds
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.config import EngineConfig
from simsched.metrics import summarize
from simsched.reproduce.fork_profile import HTTP_TOKEN, with_longest
from simsched.sweep.cell import Arm, Cell, Load
from simsched.sweep.inputs import Inputs, prepare, profile_of
from simsched.sweep.run import run as simulate
from simsched.workload.named import named_workload
from simsched.workload.trace import Trace

System = Literal["8b", "8b-80gb", "70b"]
"""`8b-80gb`: the reproduction's, on a card with 80 GB (its logs: 28,117 KV blocks)."""
PROFILES: dict[System, str] = {
    "8b": "a100-40gb/llama-3-8b/vllm-0.4.1-ltr",
    "8b-80gb": "a100-80gb/llama-3-8b/vllm-0.4.1-ltr",
    "70b": "8xa100-40gb/llama-3-70b/vllm-0.4.1-ltr",
}
DURATION = 60.0  # seconds of arrivals [C]
PREAMBLE = 15  # tokens in which the model guesses its length; they are added to its answer [C]
MEAN_OUTPUT_70B = {"sharegpt": 429 / 412, "lmsys": 307 / 293}
"""Mean output of Llama-3-70B over that of 8B [P]."""

# A request that has scored; seconds, tokens
Metrics = dict[str, float]


@dataclass(frozen=True)
class Run:
    """What determines a run."""

    policy: str
    workload: str = "sharegpt"
    request_rate: float | None = None
    """Requests/s for a minute; None: all `num_requests` at once."""
    num_requests: int = 2000
    system: System = "8b"
    predictor: str | None = None
    """None: emulated with the published tau."""
    random_ties: bool = True
    """The classifier's, as over HTTP."""
    predictor_time: bool = True
    max_num_seqs: int = 256
    offline: bool = False
    """Not over HTTP: what the server does for each token, which the profile contains, is not paid."""
    seed: int = 0


def requests(run: Run) -> Trace:
    """The run's requests. In a burst they come 1 us apart: no two of them at the same instant. All ShareGPT
    runs of 8B are of one data set, so each has its longest answer."""
    workload = named_workload(run.workload)
    if run.request_rate is None:
        trace = workload.generate(run.num_requests, arrivals="burst", seed=run.seed)
        trace = trace.with_columns(arrival_time=np.arange(run.num_requests) * 1e-6)
    else:
        trace = workload.generate(round(DURATION * run.request_rate), run.request_rate, seed=run.seed)
    if run.workload == "sharegpt" and run.system != "70b":
        trace = with_longest(trace)
    outputs = trace.num_output_tokens
    if run.system == "70b":
        outputs = np.maximum(
            1, np.rint(outputs * MEAN_OUTPUT_70B[run.workload.partition("(")[0]]).astype(int)
        )
    if run.policy == "po":
        outputs = outputs + PREAMBLE
    return trace.with_columns(num_output_tokens=outputs)


_NEUTRAL: dict[str, Any] = {"predictor": None, "random_ties": True, "predictor_time": True}
"""What makes no difference to a bound."""


@lru_cache(maxsize=64)
def least(run: Run) -> Metrics:
    """`least_` of each mean that has a lower bound, the same for all policies.

    Of synthetic data generation no mean is published.
    """
    if run.num_requests >= 10_000:
        return {}
    inputs = _inputs(replace(run, policy="fcfs"))
    cost = _cost(run)
    found = lower_bounds(requests(run), cost, inputs.config)
    return {f"least_{name}": value for name, value in found.items()}


def _cost(run: Run) -> LinearCost | TableCost:
    cost = profile_of(PROFILES[run.system]).cost
    return replace(cost, h=cost.h - HTTP_TOKEN) if run.offline else cost


def _inputs(run: Run) -> Inputs:
    """As for any setting, but that the requests and costs are the paper's, and that a true length is scored
    too: the paper's oracle takes its ranker's time."""
    config = EngineConfig(preset="vllm-0.4.1-ltr", max_num_seqs=run.max_num_seqs, random_ties=run.random_ties)
    profile = PROFILES[run.system]
    arm = Arm(run.policy, config, profile, predictor=run.predictor, predictor_time=0.0)
    inputs = prepare(Cell(Load(seed=run.seed), arm), trace=requests(run))
    scored = run.predictor_time and inputs.policy.reads in ("score", "predicted_class")
    seconds = profile_of(profile).predictor_time if scored else 0.0
    return replace(inputs, cost=_cost(run), predictor_time=seconds)


def execute(run: Run) -> Metrics:
    """Simulate it: the metrics of `summarize`, the paper's of synthetic data generation, and `least_` of what
    has a lower bound (`simsched.bounds`)."""
    record = simulate(_inputs(run))
    finish = np.sort(record.finish_time)
    return summarize(record) | {
        "seconds_to_1000": float(finish[999]) if len(finish) >= 1000 else float("nan"),
        "finished_in_300s": float(np.searchsorted(finish, 300.0)),
        "swaps": float(record.counters["swapped_out"]),
        **least(replace(run, policy="po" if run.policy == "po" else "fcfs", **_NEUTRAL)),
    }


def _timed(run: Run) -> tuple[Run, Metrics]:
    return run, execute(run)


def execute_all(
    runs: Iterable[Run], jobs: int, told: Callable[[int, int], None] = lambda done, total: None
) -> dict[Run, Metrics]:
    """Every distinct run once; the same results for any number of jobs.

    Args:
        runs: may repeat.
        jobs: processes.
        told: called with how many are done, and of how many, after each.
    """
    # the longest first, so that none is left over at the end
    distinct = sorted(set(runs), key=lambda run: -(run.request_rate or run.num_requests / DURATION))
    results: dict[Run, Metrics] = {}
    if jobs == 1:
        for run in distinct:
            results[run] = execute(run)
            told(len(results), len(distinct))
        return results
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(_timed, run) for run in distinct]
        for future in as_completed(futures):
            run, metrics = future.result()
            results[run] = metrics
            told(len(results), len(distinct))
    return results


def joint_sample(data: Path | None) -> Path | None:
    """The real joint sample of length, class and rank score, if it is in this folder of outside data."""
    if data is None:
        return None
    path = data / "rep26" / "sharegpt_r16.csv"
    return path if path.is_file() else None
