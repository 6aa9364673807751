"""Results directories with known numbers, for tests of what reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsched.histogram import WeightedHistogram
from simsched.metrics import METRICS, summarize
from simsched.record import RunRecord
from simsched.request_table import request_table
from simsched.results import Results, ResultsWriter
from simsched.workload.trace import Trace

Metrics = Callable[[str, float | None, int], Mapping[str, float]]
SLOWNESS = {"fcfs": 4.0, "mlfq": 2.5, "po": 3.0, "classification": 3.5, "ranking": 1.0}


def make_record(policy: str, rate: float | None, run: int, *, n: int = 200, unfinished: int = 0) -> RunRecord:
    """n requests of one seed per run; how long they take depends on the policy and the rate."""
    rng = np.random.default_rng(run)
    load = 1.0 if rate is None or math.isinf(rate) else rate
    slow = 1 + SLOWNESS.get(policy.partition("(")[0], 2.0) * load / 10
    arrival = np.sort(rng.uniform(0, n / load, n))
    outputs = np.clip(rng.lognormal(5, 1, n), 1, 2000).astype(int)
    wait = 0.05 * slow**2 * rng.lognormal(0, 1, n)
    per_token = 0.01 * slow * rng.lognormal(0, 0.1, n)
    finish = arrival + wait + per_token * (outputs - 1)
    finish[n - unfinished :] = np.nan
    itl = WeightedHistogram()
    for seconds, tokens in zip(per_token.tolist(), outputs.tolist(), strict=True):
        itl.add(seconds, max(1, tokens - 1))
    return RunRecord(
        trace=Trace(arrival, rng.integers(5, 500, n), outputs),
        arrival_time=arrival,
        first_scheduled_time=arrival + wait / 2,
        first_token_time=arrival + wait,
        finish_time=finish,
        num_preemptions=rng.integers(0, 2, n),
        max_itl=np.where(outputs > 1, per_token * 2, np.nan),
        itl=itl,
        end_time=float(np.nanmax(finish)),
    )


def make_results(
    path: Path,
    *,
    policies: Sequence[str] = ("fcfs", "mlfq", "ranking"),
    rates: Sequence[float | None] = (2.0, 8.0),
    runs: int = 3,
    metrics: Metrics | None = None,
    unfinished: Mapping[str, int] | None = None,
    n: int = 200,
    extra: Mapping[str, Sequence[Any]] | None = None,
    steps: Sequence[Mapping[str, Any]] | None = None,
) -> Results:
    """A finished directory; `metrics(policy, rate, run)` overrides what the made-up requests give."""
    (name, values) = next(iter((extra or {}).items()), ("", (None,)))
    cells: dict[str, dict[str, Any]] = {}
    for rate in rates:
        for value in values:
            for run in range(runs):
                for policy in policies:
                    options: dict[str, Any] = {
                        "policy": policy, "workload": "sharegpt", "request_rate": rate, "preset": "vllm-v1",
                        "run": run, "seed": run,
                    }  # fmt: skip
                    if name:
                        options[name] = value
                    cells[f"{len(cells):03d}-{policy.partition('(')[0]}"] = options
    writer = ResultsWriter.create(path, {"simsched": "0", "study": {}, "cells": cells})
    for cell, options in cells.items():
        policy, rate, run = options["policy"], options["request_rate"], options["run"]
        record = make_record(policy, rate, run, n=n, unfinished=(unfinished or {}).get(policy, 0))
        alone = 0.1 + 0.01 * record.trace.num_output_tokens
        found = summarize(record, alone=alone) | dict(metrics(policy, rate, run) if metrics else {})
        assert set(found) == set(METRICS)
        log = writer.step_log(cell) if steps is not None else None
        for step in steps or ():
            assert log is not None
            log(step)
        writer.write_cell(cell, request_table(record, alone=alone), found, log)
    return writer.merge()
