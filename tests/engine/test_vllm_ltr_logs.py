"""The fork's own scheduler, step for step: its logs (shared data), and small ones of ours for everywhere.

`tests/golden/ltr-steps.json.gz` is what the fork's engine did when it was equal to those logs;
`python -m tests.engine.test_vllm_ltr_logs` writes it anew.
"""

from __future__ import annotations

import gzip
import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.policies.spec import make_policy
from simsched.workload.formats import load_trace
from simsched.workload.trace import Trace

LOGS = {
    "fcfs-online": "fcfs",
    "class-pressure": "classification",
    "ranking-pressure": "ranking",
    "ranking-starv-pressure": "ranking(starvation_threshold=50,starvation_period=10)",
    "po-pressure": "po",
    "mlfq-pressure": "mlfq(base_quantum=0.03,threshold=2)",
}


@pytest.mark.parametrize("name", LOGS)
def test_equals_the_logs_of_the_fork(name: str, shared_data: Path) -> None:
    folder = shared_data / "steps-ltr"
    setup = json.loads((folder / f"{name}.config.json").read_text())
    trace, _ = load_trace(folder / f"{name}.trace.jsonl")
    coefficients = {key: value for key, value in setup["cost"].items() if key in "t0abcd"}
    steps: list[dict[str, Any]] = []
    simulate(
        trace,
        make_policy(LOGS[name]),
        LinearCost(**coefficients),
        engine_config("vllm-0.4.1-ltr", **setup["engine"]),
        step_log=steps.append,
    )
    assert len(steps) == setup["steps"]
    with gzip.open(folder / f"{name}.steps.jsonl.gz", "rt") as lines:
        for mine, line in zip_longest(steps, lines):
            theirs = json.loads(line)
            assert mine["time"] == pytest.approx(theirs["t"], rel=1e-9)
            assert list(mine["scheduled"].items()) == list(theirs["s"].items())
            assert mine["swapped_out"] == theirs["out"]
            assert mine["swapped_in"] == theirs["in"]
            assert mine["preempted"] == theirs["re"]
            assert mine["kv_blocks_used"] == theirs["kv"]


GOLDEN = Path(__file__).parent.parent / "golden" / "ltr-steps.json.gz"


def golden_steps(spec: str) -> list[list[Any]]:
    """A small run under pressure: [time, tokens, out, in, recomputed, blocks] of each step."""
    rng = np.random.default_rng(7)
    n = 30
    outputs = rng.integers(5, 60, n)
    trace = Trace(
        np.cumsum(rng.exponential(0.03, n)),
        rng.integers(5, 90, n),
        outputs,
        score=(outputs + rng.normal(0, 10, n)).round(1),
        predicted_class=outputs // 15,
        predicted_length=outputs.astype(float),
    )
    config = engine_config(
        "vllm-0.4.1-ltr", max_num_seqs=6, max_num_batched_tokens=48, num_gpu_blocks=36, max_model_len=512
    )
    cost = LinearCost(t0=0.011, a=5.3e-5, b=6.4e-5, c=8.07e-8, d=3.7e-9)
    steps: list[dict[str, Any]] = []
    simulate(trace, make_policy(spec), cost, config, step_log=steps.append)
    keys = ("swapped_out", "swapped_in", "preempted", "kv_blocks_used")
    return [[round(s["time"], 9), list(s["scheduled"].items()), *(s[key] for key in keys)] for s in steps]


@pytest.mark.parametrize("spec", [*LOGS.values(), "srtf"])
def test_equals_the_golden_log(spec: str) -> None:
    with gzip.open(GOLDEN, "rt") as file:
        golden = json.load(file)[spec]
    assert json.loads(json.dumps(golden_steps(spec))) == golden


if __name__ == "__main__":
    with gzip.GzipFile(GOLDEN, "wb", mtime=0) as file:
        text = json.dumps({spec: golden_steps(spec) for spec in [*LOGS.values(), "srtf"]})
        file.write(text.encode())
