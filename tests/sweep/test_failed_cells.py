"""A run that can't go on is a failed cell with its reason: the rest is done, compared and drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from simsched.cli import cli
from simsched.errors import InputError, RunError
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.study import make_study
from simsched.workload.trace import Trace
from simsched.workload.trace_io import write_trace

LIVELOCK = "ranking(starvation_threshold=1,starvation_period=1)"
"""Promoted before its chunked prefill is over, and so displaced by the next one, for ever."""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    trace = Trace(np.arange(20) * 0.05, np.full(20, 900), np.full(20, 90))
    write_trace(trace, tmp_path / "long.jsonl")
    cost = {"form": "linear", "unit": "s", "t0": 0.011, "a": 5.3e-5, "b": 6.4e-5, "c": 8.1e-8, "d": 3.7e-9}
    (tmp_path / "cost.json").write_text(json.dumps(cost))
    return {
        "trace": str(tmp_path / "long.jsonl"),
        "cost_profile": str(tmp_path / "cost.json"),
        "num_gpu_blocks": "100",
        "max_model_len": "1100",
        "max_num_batched_tokens": "64",
    }


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_rest_is_done(tmp_path: Path, options: dict[str, object], jobs: int) -> None:
    study = make_study({**options, "policy": f"fcfs,{LIVELOCK},srtf", "log_steps": True})
    results = run_study(study, tmp_path / "out", jobs=jobs)
    assert [cell["policy"] for cell in results.cells.values()] == ["fcfs", "srtf"]
    assert results.summary["policy"].to_list() == ["fcfs", "srtf"]
    assert set(results.requests["policy"]) == {"fcfs", "srtf"}
    ((failed, reason),) = results.failed.items()
    assert "ranking_starvation" in failed
    assert "requests displace each other" in reason
    assert f"{failed} failed: " in (tmp_path / "out" / "run.log").read_text()
    assert not list((tmp_path / "out" / "steps").glob(f"*{failed}*"))
    again = run_study(study, tmp_path / "out", jobs=jobs, resume=True)
    assert again.failed == results.failed
    assert Results.open(tmp_path / "out").failed == results.failed


def test_the_command_line_compares_draws_and_exits_with_1(tmp_path: Path, options: dict[str, object]) -> None:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    out = tmp_path / "out"
    run = CliRunner().invoke(cli, ["run", *words, "--policy", f"fcfs,srtf,{LIVELOCK}", "-o", str(out)])
    assert run.exit_code == 1
    assert "Mean latency per token: " in run.stdout
    assert list((out / "figures").glob("*.png"))
    assert "failed: 2-ranking_starvation" in run.stderr
    assert "1 of 3 cells failed; the others are complete" in run.stderr
    compared = CliRunner().invoke(cli, ["compare", str(out)])
    assert compared.exit_code == 0
    assert f"failed: {LIVELOCK}" in compared.stdout
    assert CliRunner().invoke(cli, ["plot", str(out), "--kind", "all"]).exit_code == 0
    assert CliRunner().invoke(cli, ["report", str(out), "-o", str(tmp_path / "r.html")]).exit_code == 0


def test_nothing_can_be_merged_where_all_failed(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(RunError, match=r"no cell could be run; 0-ranking.*displace each other"):
        run_study(make_study({**options, "policy": LIVELOCK}), tmp_path / "out")
    with pytest.raises(InputError, match="unfinished"):
        Results.open(tmp_path / "out")
