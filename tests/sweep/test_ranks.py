"""Ranks that step together, from the command line to the results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.cli import main
from simsched.rank_metrics import rank_values
from simsched.record import RankTimes
from simsched.results import Results

A100 = "a100-80gb/llama-3-8b"
COST = {"form": "linear", "unit": "s", "t0": 0.01, "a": 1e-4, "b": 1e-4, "c": 0, "d": 0}
TRACE = [{"timestamp": 0.05 * i, "input_length": 40, "output_length": 5 + 20 * (i % 3)} for i in range(12)]


def simsched(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 0


def test_what_ranks_cost_is_in_the_results(tmp_path: Path) -> None:
    (tmp_path / "cost.json").write_text(json.dumps(COST))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TRACE))
    common = ["run", "--trace", str(tmp_path / "t.jsonl"), "--policy", "fcfs", "--max-model-len", "512"]
    common += ["--cost-profile", str(tmp_path / "cost.json"), "--num-gpu-blocks", "200", "--no-plot"]
    swept = ["--num-replicas", "3", "--router", "round-robin", "--moe-data-parallel", "--log-steps"]
    simsched(*common, *swept, "--dp-sync-interval", "1,8", "-o", str(tmp_path / "out"))
    results = Results.open(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for row in results.summary.to_dicts():
        ranks = summary["ranks"][row["cell"]]
        lines = list(results.steps(row["cell"]))
        dummies = [line["replica"] for line in lines if line["dummy"]]
        assert row["dummy_step_share"] == pytest.approx(len(dummies) / len(lines))
        assert 0 < row["barrier_wait_share"] < 1
        for rank, shares in enumerate(ranks):
            mine = sum(line["replica"] == rank for line in lines)
            assert shares["dummy_step_share"] == pytest.approx(dummies.count(rank) / mine)
        assert all(not line["scheduled"] for line in lines if line["dummy"])


def test_independent_replicas_have_no_such_columns(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TRACE))
    arguments = ["run", "--trace", str(tmp_path / "t.jsonl"), "--policy", "fcfs", "--num-replicas", "2"]
    simsched(*arguments, "--no-plot", "-o", str(tmp_path / "out"))
    assert "dummy_step_share" not in Results.open(tmp_path / "out").summary.columns
    assert "ranks" not in json.loads((tmp_path / "out" / "summary.json").read_text())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--moe-data-parallel: one engine has nobody to wait for; expected --num-replicas"),
        (
            ["--replicas", f"{A100}(async_scheduling=true)+{A100}(async_scheduling=false)"],
            "ranks schedule alike",
        ),
        (
            ["--replicas", f"{A100}+{A100}(prefill_schedule_interval=3)"],
            "no option prefill_schedule_interval of one replica",
        ),
    ],
)  # fmt: skip
def test_bad_input(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--policy", "fcfs", "--request-rate", "4", "--num-requests", "5"]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--moe-data-parallel", *given, "-o", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_shares_of_times() -> None:
    first = RankTimes(3, 1, batch_seconds=2.0, dummy_seconds=0.5, waiting_seconds=1.0)
    second = RankTimes(0, 4, dummy_seconds=2.5)
    assert rank_values((first, second)) == {"dummy_step_share": 5 / 8, "barrier_wait_share": 0.5}
    assert rank_values((second,))["barrier_wait_share"] != rank_values((second,))["barrier_wait_share"]
    assert rank_values(()) == {}
