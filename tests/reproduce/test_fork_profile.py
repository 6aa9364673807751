"""The profile of the paper's fork."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simsched.cost_model.calibrate import Target, known_gpu, known_model
from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.metrics import summarize
from simsched.policies.fcfs import Fcfs
from simsched.reproduce.fork_profile import calibrate_from_summary, fit_fcfs, read_summary, with_longest
from simsched.workload.named import named_workload

HEADER = "policy,request_rate,mean_ttft_ms,mean_tpot_ms,mean_latency_per_token_ms\n"
COLUMNS = HEADER.strip().split(",")[2:]
CONFIG = engine_config("vllm-0.4.1-ltr", num_gpu_blocks=9740, max_model_len=8192)


def write(path: Path, *lines: str) -> Path:
    path.write_text(HEADER + "".join(f"{line}\n" for line in lines))
    return path


def test_only_fcfs_rows_from_8_req_s_count(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "fcfs,4,1,1,1", "ranking,8,1,1,1", "fcfs,8,10,20,30", "fcfs,16,1,2,3")
    assert [(row.request_rate, row.values) for row in read_summary(path)] == [
        (8.0, (0.01, 0.02, 0.03)),
        (16.0, (0.001, 0.002, 0.003)),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("fcfs,8,1,1,1",), "expected two rows or more"),
        (("fcfs,8,1,1,1", "fcfs,16,nan,1,1"), ":3: expected numbers above 0"),
        (("fcfs,8,1,1,1", "fcfs,16,x,1,1"), ":3: expected numbers"),
        (("fcfs,8,1,1,1", "fcfs,16,-1,1,1"), ":3: expected numbers above 0"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_summary(write(tmp_path / "s.csv", *lines))


def test_a_table_without_the_columns_or_target(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="expected columns policy"):
        read_summary(tmp_path / "other.csv")
    path = write(tmp_path / "s.csv", "fcfs,8,1,1,1", "fcfs,16,1,1,1")
    with pytest.raises(InputError, match="--gpu and --model"):
        calibrate_from_summary(path, Target("x"))
    target = Target("x", known_gpu("a100-40gb"), known_model("llama-3.1-8b"), tp=4)
    with pytest.raises(InputError, match="--tp 4"):
        calibrate_from_summary(path, target)


def test_rows_of_a_known_cost_are_met_again(tmp_path: Path) -> None:
    true = LinearCost(t0=0.02, a=8e-5, b=0.0, c=8.07e-8, d=3.68e-9, h=2.2e-4, per_padded=1.5e-7)
    workload = named_workload("sharegpt")
    lines = []
    for rate in (8, 16):
        runs = [
            summarize(
                simulate(with_longest(workload.generate(60 * rate, rate, seed=seed)), Fcfs(), true, CONFIG)
            )
            for seed in (0, 1)
        ]
        means = [np.mean([run[name] for run in runs]) for name in COLUMNS]
        lines.append(",".join(map(str, ["fcfs", rate, *means])))
    fit = fit_fcfs(read_summary(write(tmp_path / "s.csv", *lines)), CONFIG, seed=0)
    assert np.abs(fit.errors).max() < 0.06
    for name, (low, high) in fit.intervals.items():
        assert low < getattr(true, name) < high
    # few means, four coefficients: it must own up to what it does not know
    assert min(fit.told.values()) < 0.5
