"""Replicas and routers as options of a study: columns, capacity, refusals, seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from simsched.cli import main

COMMON = ["run", "--workload", "sharegpt", "--num-requests", "60", "--no-plot"]


def simulated(out: Path, *options: str) -> pl.DataFrame:
    with pytest.raises(SystemExit) as ended:
        main([*COMMON, *options, "-o", str(out)])
    assert not ended.value.code
    return pl.read_parquet(out / "requests.parquet")


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*COMMON, *options])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_the_replica_of_each_request_is_a_column_where_replicas_are_asked_for(tmp_path: Path) -> None:
    one = simulated(tmp_path / "a", "--policy", "fcfs", "--request-rate", "40")
    assert "replica" not in one.columns
    three = simulated(
        tmp_path / "b",
        "--policy",
        "fcfs",
        "--request-rate",
        "40",
        "--num-replicas",
        "3",
        "--router",
        "round-robin",
    )
    assert three["replica"].to_list() == [number % 3 for number in range(60)]


def test_one_replica_behind_any_router_gives_the_times_of_a_lone_engine(tmp_path: Path) -> None:
    options = ["--policy", "ranking,fcfs", "--request-rate", "20"]
    lone = simulated(tmp_path / "a", *options)
    routed = simulated(
        tmp_path / "b", *options, "--num-replicas", "1", "--router", "power-of-two,vllm-dp,dynamo,llm-d"
    )
    for policy in ("ranking", "fcfs"):
        expected = lone.filter(policy=policy)["finish_time"].to_numpy()
        for (_,), cell in routed.filter(policy=policy).group_by("router"):
            assert np.array_equal(cell["finish_time"].to_numpy(), expected)


def test_capacity_is_that_of_all_replicas_and_rates_are_shares_of_it(tmp_path: Path) -> None:
    one = simulated(tmp_path / "a", "--policy", "fcfs", "--request-rate", "0.5x")
    four = simulated(tmp_path / "b", "--policy", "fcfs", "--request-rate", "0.5x", "--num-replicas", "4")
    assert four["request_rate"][0] == pytest.approx(4 * one["request_rate"][0], rel=1e-3)


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    options = [
        "--policy",
        "fcfs",
        "--request-rate",
        "40",
        "--num-replicas",
        "5",
        "--router",
        "random",
        "--num-runs",
        "2",
    ]
    for name, jobs in (("a", "1"), ("b", "2")):
        simulated(tmp_path / name, *options, "--jobs", jobs)
    assert (tmp_path / "a/requests.parquet").read_bytes() == (tmp_path / "b/requests.parquet").read_bytes()


def test_a_router_that_reads_predictions_gets_them(tmp_path: Path) -> None:
    found = simulated(
        tmp_path / "a", "--policy", "fcfs", "--request-rate", "40", "--num-replicas", "2",
        "--router", "least-predicted-work",
    )  # fmt: skip
    assert set(found["replica"].to_list()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--router", "random"], "--router random: only with --num-replicas"),
        (["--num-replicas", "2", "--router", "nearest"], "router nearest: unknown; expected one of"),
        (["--num-replicas", "0"], "--num-replicas"),
    ],
)
def test_what_is_refused(capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert message in refused(capsys, "--policy", "fcfs", "--request-rate", "1", *options)


def test_a_router_that_reads_lengths_gets_none_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trace with scores: by the quantiles of the ranker's data, or one line."""
    trace, data = tmp_path / "t.jsonl", tmp_path / "data.jsonl"
    row = '{{"timestamp": {0}, "input_length": 50, "output_length": {1}, "score": {2}}}\n'
    trace.write_text("".join(row.format(number, 20 + number, number % 7) for number in range(40)))
    data.write_text("".join(row.format(0, 10 * number + 10, number) for number in range(7)))
    common = ["run", "--trace", str(trace), "--no-plot", "--policy", "fcfs,ranking", "--num-replicas", "2"]
    common += ["--router", "least-predicted-work"]
    with pytest.raises(SystemExit) as ended:
        main([*common, "-o", str(tmp_path / "a")])
    assert ended.value.code == 2
    assert "t has no column predicted_length, and its scores are no lengths" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*common, "--predictor", f"trace(lengths={data})", "-o", str(tmp_path / "b")])
    assert not ended.value.code
    assert "predicted_length from the trace's scores, by the quantiles of" in capsys.readouterr().err


def test_a_router_of_sessions_says_where_there_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--policy", "fcfs", "--request-rate", "40", "--num-replicas", "2", "--router", "session"]
    simulated(tmp_path / "a", *options)
    said = capsys.readouterr().err
    assert said.count("router session: sharegpt has no session_id; each request is one by itself") == 1


def test_who_is_too_long_hears_of_profiles_with_a_longer_context(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--policy", "fcfs", "--arrivals", "users(2)", "--workload", "coding-agent"]
    message = refused(capsys, *options)
    assert "coding-agent: no request fits: the shortest has " in message
    assert "(max_model_len 8192); --cost-profile a100-80gb/llama-3.1-8b or " in message
    assert "has a context of 131072" in message
