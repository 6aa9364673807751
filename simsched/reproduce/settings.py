"""One simulated setting of a study, and running many of them in processes."""

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
class Setting:
    """What determines one simulated run."""

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


def requests(setting: Setting) -> Trace:
    """The run's requests. In a burst they come 1 us apart: no two of them at the same instant. All ShareGPT
    runs of 8B are of one data set, so each has its longest answer."""
    workload = named_workload(setting.workload)
    if setting.request_rate is None:
        trace = workload.generate(setting.num_requests, arrivals="burst", seed=setting.seed)
        trace = trace.with_columns(arrival_time=np.arange(setting.num_requests) * 1e-6)
    else:
        trace = workload.generate(
            round(DURATION * setting.request_rate), setting.request_rate, seed=setting.seed
        )
    if setting.workload == "sharegpt" and setting.system != "70b":
        trace = with_longest(trace)
    outputs = trace.num_output_tokens
    if setting.system == "70b":
        outputs = np.maximum(
            1, np.rint(outputs * MEAN_OUTPUT_70B[setting.workload.partition("(")[0]]).astype(int)
        )
    if setting.policy == "po":
        outputs = outputs + PREAMBLE
    return trace.with_columns(num_output_tokens=outputs)


_NEUTRAL: dict[str, Any] = {"predictor": None, "random_ties": True, "predictor_time": True}
"""What makes no difference to a bound."""


@lru_cache(maxsize=64)
def least(setting: Setting) -> Metrics:
    """`least_` of each mean that has a lower bound, the same for all policies.

    Of synthetic data generation no mean is published.
    """
    if setting.num_requests >= 10_000:
        return {}
    inputs = _inputs(replace(setting, policy="fcfs"))
    cost = _cost(setting)
    found = lower_bounds(requests(setting), cost, inputs.config)
    return {f"least_{name}": value for name, value in found.items()}


def _cost(setting: Setting) -> LinearCost | TableCost:
    cost = profile_of(PROFILES[setting.system]).cost
    return replace(cost, h=cost.h - HTTP_TOKEN) if setting.offline else cost


def _inputs(setting: Setting) -> Inputs:
    """As for any setting, but that the requests and costs are the paper's, and that a true length is scored
    too: the paper's oracle takes its ranker's time."""
    config = EngineConfig(
        preset="vllm-0.4.1-ltr", max_num_seqs=setting.max_num_seqs, random_ties=setting.random_ties
    )
    profile = PROFILES[setting.system]
    arm = Arm(setting.policy, config, profile, predictor=setting.predictor, predictor_time=0.0)
    inputs = prepare(Cell(Load(seed=setting.seed), arm), trace=requests(setting))
    scored = setting.predictor_time and inputs.policy.reads in ("score", "predicted_class")
    seconds = profile_of(profile).predictor_time if scored else 0.0
    return replace(inputs, cost=_cost(setting), predictor_time=seconds)


def execute(setting: Setting) -> Metrics:
    """Simulate it: the metrics of `summarize`, the paper's of synthetic data generation, and `least_` of what
    has a lower bound (`simsched.bounds`)."""
    record = simulate(_inputs(setting))
    finish = np.sort(record.finish_time)
    return summarize(record) | {
        "seconds_to_1000": float(finish[999]) if len(finish) >= 1000 else float("nan"),
        "finished_in_300s": float(np.searchsorted(finish, 300.0)),
        "swaps": float(record.counters["swapped_out"]),
        **least(replace(setting, policy="po" if setting.policy == "po" else "fcfs", **_NEUTRAL)),
    }


def _timed(setting: Setting) -> tuple[Setting, Metrics]:
    return setting, execute(setting)


def execute_all(
    settings: Iterable[Setting], jobs: int, told: Callable[[int, int], None] = lambda done, total: None
) -> dict[Setting, Metrics]:
    """Every distinct run once; the same results for any number of jobs.

    Args:
        settings: may repeat.
        jobs: processes.
        told: called with how many are done, and of how many, after each.
    """
    # the longest first, so that none is left over at the end
    distinct = sorted(set(settings), key=lambda each: -(each.request_rate or each.num_requests / DURATION))
    results: dict[Setting, Metrics] = {}
    if jobs == 1:
        for setting in distinct:
            results[setting] = execute(setting)
            told(len(results), len(distinct))
        return results
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(_timed, setting) for setting in distinct]
        for future in as_completed(futures):
            setting, metrics = future.result()
            results[setting] = metrics
            told(len(results), len(distinct))
    return results


def joint_sample(data: Path | None) -> Path | None:
    """The real joint sample of length, class and rank score, if it is in this folder of outside data."""
    if data is None:
        return None
    path = data / "rep26" / "sharegpt_r16.csv"
    return path if path.is_file() else None
