"""A grid gives the same bytes in one process, in two, on a Dask cluster, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from simsched.errors import InputError
from simsched.metrics import SUMMARY
from simsched.results import Results
from simsched.sweep.capacity import capacity
from simsched.sweep.execute import run_study
from simsched.sweep.inputs import prepare
from simsched.sweep.plan import make_plan
from simsched.sweep.study import make_study

COST = {"form": "linear", "unit": "s", "t0": 0.01, "a": 5e-5, "b": 6e-5, "c": 8e-8, "d": 3e-9}
ENGINE = {
    "max_num_seqs": "16", "max_num_batched_tokens": "512", "block_size": "16",
    "num_gpu_blocks": "400", "max_model_len": "2048",
}  # fmt: skip


@pytest.fixture
def cost_file(tmp_path: Path) -> str:
    path = tmp_path / "cost.json"
    path.write_text(json.dumps(COST))
    return str(path)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def trace_file(tmp_path: Path) -> str:
    """300 requests in bursts of 20, with their own ids and scores."""
    return write_jsonl(
        tmp_path / "T.jsonl",
        [
            {
                "timestamp": 0.5 * (i // 20), "input_length": 20 + 37 * i % 400,
                "output_length": 5 + 61 * i % 190, "request_id": f"r{i:03d}", "score": 61 * i % 190,
            }
            for i in range(300)
        ],
    )  # fmt: skip


def contents(path: Path) -> dict[str, bytes]:
    """Every file but run.log, which holds times of day."""
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    files.pop("run.log", None)
    return files


def small_study(**options: Any) -> dict[str, Any]:
    return {
        "policy": "fcfs,ranking,mlfq", "request_rate": "8,0.9x", "num_requests": "60", "num_runs": "2",
        "log_steps": True, "goodput": "ttft:500", **options,
    }  # fmt: skip


def test_results_of_a_grid(tmp_path: Path) -> None:
    results = run_study(make_study(small_study()), tmp_path / "out", jobs=1)
    assert len(results.cells) == 12
    summary, requests = results.summary, results.requests
    options = ["policy", "workload", "request_rate", "preset", "run", "seed"]
    assert summary.columns == ["cell", *options, *SUMMARY]
    assert requests.columns[: len(options) + 1] == [*options, "request_id"]
    assert requests.height == 12 * 60
    assert summary["unfinished"].sum() == 0
    assert summary["request_goodput"].is_not_null().all()
    # common random numbers: all policies meet the same requests, at all rates the same lengths
    lengths = ["num_prompt_tokens", "num_output_tokens"]
    first = requests.filter(run=0, policy="fcfs", request_rate=8.0)
    for keys, group in requests.filter(run=0).group_by("policy", "request_rate"):
        assert group.select(lengths).equals(first.select(lengths)), keys
    of_run = {run: requests.filter(run=run, policy="fcfs", request_rate=8.0) for run in (0, 1)}
    assert not of_run[0].select(lengths).equals(of_run[1].select(lengths))
    # each metric of the summary can be had from the requests
    for cell, values in results.cells.items():
        mine = requests.filter(**{name: values[name] for name in options})
        ms = 1e3 * (mine["finish_time"] - mine["arrival_time"]) / mine["num_output_tokens"]
        given = summary.filter(cell=cell)["mean_latency_per_token_ms"].item()
        assert given == pytest.approx(ms.to_numpy().mean())
        steps = list(results.steps(cell))
        assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
        tokens = sum(sum(step["scheduled"].values()) for step in steps)
        # the last token of each is never computed; a preemption computes some again
        assert tokens >= sum(mine["num_prompt_tokens"] + mine["num_output_tokens"] - 1)


def test_two_processes_give_the_same_bytes(tmp_path: Path) -> None:
    study = make_study(small_study())
    one = run_study(study, tmp_path / "one", jobs=1)
    two = run_study(study, tmp_path / "two", jobs=2)
    assert contents(one.path) == contents(two.path)


def test_dask_gives_the_same_bytes(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the dask extra")
    study = make_study(small_study())
    run_study(study, tmp_path / "here", jobs=1)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        run_study(study, tmp_path / "dask", executor="dask", dask_scheduler=cluster.scheduler_address)
    assert contents(tmp_path / "here") == contents(tmp_path / "dask")


def test_dask_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the dask extra")
    study = make_study(small_study())
    with pytest.raises(InputError, match=r"--dask-scheduler tcp://127.0.0.1:9: cannot reach"):
        run_study(study, tmp_path / "out", executor="dask", dask_scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="give the cluster's address"):
        run_study(study, tmp_path / "other", executor="dask")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path, jobs: int) -> None:
    flags = ["--policy", "fcfs,ranking", "--request-rate", "8,12", "--num-requests", "40", "--num-runs", "6"]
    run = [sys.executable, "-m", "simsched", "run", *flags, "--no-plot", "--log-steps", "--jobs", str(jobs)]
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [*run, "-o", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list(killed.glob("cells/[0-9]*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(list(killed.glob("cells/[0-9]*"))) < 24
    with pytest.raises(InputError, match="unfinished"):
        Results.open(killed)
    for out, extra in ((killed, ["--resume"]), (tmp_path / "whole", [])):
        subprocess.run([*run, *extra, "-o", str(out)], check=True, capture_output=True)
    assert contents(killed) == contents(tmp_path / "whole")


def test_ctrl_c_says_how_to_resume(tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--policy", "fcfs,ranking", "--request-rate", "8", "--num-requests", "2000", "--num-runs", "20"]
    run = [sys.executable, "-m", "simsched", "run", *flags, "--no-plot", "-o", str(out), "--jobs", "2"]
    process = subprocess.Popen(
        run, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # where the tests run in the background, their children would ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(list(out.glob("cells/[0-9]*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "of 40 cells; continue with" in errors
    assert f"-o {out} --jobs 2 --resume" in errors
    assert subprocess.run([*run, "--resume"], capture_output=True).returncode == 0


def test_replayed_trace(tmp_path: Path, trace_file: str, cost_file: str) -> None:
    study = make_study({"trace": trace_file, "policy": "fcfs,ranking", "cost_profile": cost_file, **ENGINE})
    results = run_study(study, tmp_path / "out", jobs=1)
    requests = results.requests.filter(policy="ranking")
    assert requests["request_id"].to_list() == [f"r{i:03d}" for i in range(300)]
    assert requests["arrival_time"].to_list() == [0.5 * (i // 20) for i in range(300)]
    assert results.summary["workload"].unique().to_list() == ["T"]
    assert results.summary["request_rate"].to_list() == [None, None]
    assert results.requests.schema["request_rate"] == pl.Float64
    notes = " ".join(results.manifest["notes"])
    assert "score as given in the trace" in notes
    # a bare cost file: nothing is added that was not asked for
    assert all(prepare(cell).predictor_time == 0 for cell in make_plan(study).cells.values())


def test_predictor_time_comes_with_an_embedded_profile() -> None:
    policies = "fcfs,ranking,srtf,po"
    plan = make_plan(make_study({"policy": policies, "request_rate": "4", "num_requests": "20"}))
    seconds = {cell.arm.policy: prepare(cell).predictor_time for cell in plan.cells.values()}
    assert seconds["ranking"] > 0
    assert seconds["fcfs"] == seconds["srtf"] == seconds["po"] == 0
    assert any("ranking: its predictor takes" in note for note in plan.notes)
    given = make_study(
        {"policy": policies, "request_rate": "4", "num_requests": "20", "predictor_time": "0.5"}
    )
    seconds = {cell.arm.policy: prepare(cell).predictor_time for cell in make_plan(given).cells.values()}
    assert seconds == {"fcfs": 0, "ranking": 0.5, "srtf": 0.5, "po": 0.5}


def test_arrivals_and_rates(trace_file: str, cost_file: str) -> None:
    base = {"trace": trace_file, "policy": "fcfs", "cost_profile": cost_file, **ENGINE}

    def trace_of(**options: str) -> Any:
        (cell,) = make_plan(make_study({**base, **options})).cells.values()
        return prepare(cell).trace

    rescaled = trace_of(request_rate="10").arrival_time
    assert (len(rescaled) - 1) / (rescaled[-1] - rescaled[0]) == pytest.approx(10)
    for cut, number in ({"num_requests": "30"}, 30), ({"duration": "6"}, 60):
        part = trace_of(request_rate="10", **cut).arrival_time  # a part of the trace has the rate asked for
        assert len(part) == number
        assert (number - 1) / (part[-1] - part[0]) == pytest.approx(10)
    assert trace_of(arrivals="burst").arrival_time.max() == 0
    assert trace_of(arrivals="closed(users=4)").closed_loop_users == 4
    assert len(trace_of(duration="2")) == 100  # bursts at 0, 0.5, 1, 1.5 and 2 s
    assert len(trace_of(num_requests="7")) == 7
    poisson = trace_of(arrivals="poisson", request_rate="5", seed="1").arrival_time
    assert poisson[-1] / len(poisson) == pytest.approx(1 / 5, rel=0.2)


def test_cells_have_a_column_for_what_is_swept() -> None:
    study = make_study({
        "policy": "fcfs,ranking(starvation_threshold=200,starvation_period=10)",
        "workload": "sharegpt,lmsys", "request_rate": "4", "max_num_seqs": "64,256", "num_requests": "5",
    })  # fmt: skip
    plan = make_plan(study)
    assert len(plan.cells) == 8
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_=.") for name in plan.cells)
    options = list(plan.options.values())
    assert {(str(o["policy"])[:4], o["workload"], o["max_num_seqs"]) for o in options} == {
        (p, w, n) for p in ("fcfs", "rank") for w in ("sharegpt", "lmsys") for n in (64, 256)
    }
    assert plan.total_requests == 40


def test_steps_beyond_what_the_profile_was_fitted_on(tmp_path: Path, trace_file: str) -> None:
    profile = {"version": 1, "name": "mine", "hardware": {"gpu": "x"}, "model": {"name": "y"}, "cost": COST}
    for seen, beyond in (4.0, True), (16.0, False), (None, False):
        ranges = {} if seen is None else {"decodes": [0.0, seen]}
        (tmp_path / "mine.json").write_text(json.dumps({**profile, "valid_range": ranges}))
        given = {"trace": trace_file, "policy": "fcfs", "cost_profile": str(tmp_path / "mine.json"), **ENGINE}
        leapt = run_study(make_study(given), tmp_path / f"leapt{seen}")
        results = run_study(make_study({**given, "log_steps": True}), tmp_path / f"out{seen}")
        assert results.beyond_fit == leapt.beyond_fit
        ((cell, share),) = results.beyond_fit.items()
        steps = list(results.steps(cell))
        decodes = [sum(tokens == 1 for tokens in step["scheduled"].values()) for step in steps]
        assert share == (sum(n > 4 for n in decodes) / len(decodes) if beyond else 0)
        assert (share > 0.1) == beyond


def test_resume_with_another_configuration(tmp_path: Path, trace_file: str, cost_file: str) -> None:
    given = {"trace": trace_file, "policy": "fcfs", "cost_profile": cost_file, **ENGINE}
    run_study(make_study(given), tmp_path / "out")
    with pytest.raises(InputError, match=r'study\.policy is \["fcfs"\] there, \["sjf"\] here'):
        run_study(make_study({**given, "policy": "sjf"}), tmp_path / "out", resume=True)
    lines = Path(trace_file).read_text().splitlines(keepends=True)
    Path(trace_file).write_text("".join(lines[:-1]))
    with pytest.raises(
        InputError, match=r"T.jsonl has changed since; .* another study needs another directory"
    ):
        run_study(make_study(given), tmp_path / "out", resume=True)


def test_capacity_is_where_the_queue_starts_to_grow() -> None:
    """A burst long enough to keep the batch full is served at the capacity."""
    plan = make_plan(make_study({"policy": "fcfs", "arrivals": "burst", "num_requests": "6000"}))
    (cell,) = plan.cells.values()
    inputs = prepare(cell)
    from simsched.engine.simulator import simulate

    record = simulate(inputs.trace, inputs.policy, inputs.cost, inputs.config)
    finish = sorted(record.finish_time)
    middle = finish[1000:5000]
    served = (len(middle) - 1) / (middle[-1] - middle[0])
    assert served == pytest.approx(capacity(inputs.trace, inputs.cost, inputs.config).rate, rel=0.05)
