"""Comparing two results directories: errors, speed-ups, orders and the verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.errors import InputError
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.study import make_study
from validate.cli import cli
from validate.comparison import compare_results
from validate.verdict import Tolerance

STUDY = {
    "workload": "sharegpt", "policy": "fcfs,ranking,srtf", "request_rate": "8,20", "num_requests": 60,
    "max_num_seqs": 8, "num_gpu_blocks": 600, "log_steps": True,
}  # fmt: skip


def linear(path: Path, factor: float) -> str:
    """A cost file `factor` times as slow as an A100."""
    cost = {"t0": 0.011, "a": 5.3e-5, "b": 6.4e-5, "c": 8e-8, "d": 3.7e-9}
    scaled = {name: value * factor for name, value in cost.items()}
    path.write_text(json.dumps({"form": "linear", "unit": "s", **scaled}))
    return str(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Results]:
    """The same study on two engines, one 10 % slower."""
    folder = tmp_path_factory.mktemp("pair")
    made = []
    for name, factor in (("real", 1.0), ("sim", 1.1)):
        profile = linear(folder / f"{name}.json", factor)
        study = make_study({**STUDY, "cost_profile": profile, "max_model_len": 4096})
        made.append(run_study(study, folder / name, jobs=1))
    return made[0], made[1]


def test_a_run_agrees_with_itself(pair: tuple[Results, Results]) -> None:
    result = compare_results(pair[0], pair[0])
    assert result["verdict"]["within_tolerance"]
    assert result["order_tau"] == 1
    assert result["speedup_error"] == {"fcfs": 0, "ranking": 0, "srtf": 0}
    for values in result["policies"].values():
        assert values["p99_itl_ms"]["relative_error"] == 0
        assert values["mean_ttft_ms"]["real"] > 0


def test_routers_are_told_apart(tmp_path: Path) -> None:
    study = {**STUDY, "policy": "fcfs", "request_rate": "20", "num_replicas": "2"}
    profile = linear(tmp_path / "cost.json", 1.0)
    study |= {"router": "round-robin,random", "cost_profile": profile, "max_model_len": 4096}
    results = run_study(make_study(study), tmp_path / "out", jobs=1)
    result = compare_results(results, results, baseline="fcfs,router=random")
    assert set(result["policies"]) == {"fcfs,router=round-robin", "fcfs,router=random"}
    assert result["speedup_error"] == {"fcfs,router=round-robin": 0, "fcfs,router=random": 0}


def test_a_slower_engine_shows_in_its_parts(pair: tuple[Results, Results]) -> None:
    result = compare_results(*pair)
    row = result["loads"][0]["policies"]["fcfs"]
    assert row["components"]["mean_step_time_ms"]["relative_error"] == pytest.approx(0.1, abs=0.03)
    assert row["metrics"]["mean_tpot_ms"]["relative_error"] == pytest.approx(0.1, abs=0.03)
    assert row["metrics"]["mean_latency_per_token_ms"]["relative_error"] > 0.05
    assert not result["verdict"]["within_tolerance"]
    assert any("fcfs: mean_latency_per_token_ms +" in text for text in result["verdict"]["failures"])
    assert compare_results(*pair, tolerance=Tolerance(10, 10, 10))["verdict"]["failures"] == []


def test_several_replays_show_the_machines_spread(pair: tuple[Results, Results]) -> None:
    """Two real runs, one 10 % slower: an error within their difference is told from one beyond it."""
    fast, slow = pair
    result = compare_results([fast, slow], slow)
    row = result["loads"][0]["policies"]["fcfs"]["metrics"]["mean_latency_per_token_ms"]
    assert row["real"] == pytest.approx(sum(row["runs"]) / 2)
    assert row["spread"] == pytest.approx((row["runs"][1] - row["runs"][0]) / row["real"])
    assert 0 < row["relative_error"] < row["spread"]
    verdict = compare_results([fast, slow], slow, tolerance=Tolerance(0.001, 0.001, 0.001))["verdict"]
    assert not verdict["within_tolerance"]
    assert any("real runs differ by" in text for text in verdict["failures"])
    assert not [text for text in verdict["beyond_spread"] if "mean_latency" in text]
    alone = compare_results([fast, fast], slow)["verdict"]
    assert set(alone["beyond_spread"]) == set(alone["failures"]) != set()


def test_policies_whose_real_runs_overlap_are_tied(pair: tuple[Results, Results]) -> None:
    result = compare_results(list(pair), pair[0])
    for load in result["loads"]:
        runs = {
            policy: row["metrics"]["mean_latency_per_token_ms"]["runs"]
            for policy, row in load["policies"].items()
        }
        for better, worse in load["order_tied"]:
            assert max(runs[better]) >= min(runs[worse])
        assert load["order_reversed"] == []
        assert load["order_tau_distinct"] in (None, 1.0)
    assert compare_results(pair[0], pair[0])["loads"][0]["order_tied"] == []  # one run knows no ties


def test_the_errors_are_those_of_the_summaries(pair: tuple[Results, Results]) -> None:
    """Recomputed from summary.csv's numbers, load by load."""
    result = compare_results(*pair)
    for load in result["loads"]:
        for policy, row in load["policies"].items():
            values = []
            for results in pair:
                (cell,) = [
                    each for each in results.summary.to_dicts()
                    if each["policy"] == policy and each["request_rate"] == load["request_rate"]
                ]  # fmt: skip
                values.append(cell["p99_latency_per_token_ms"])
            shown = row["metrics"]["p99_latency_per_token_ms"]
            assert (shown["real"], shown["simulated"]) == pytest.approx(values)
            assert shown["relative_error"] == pytest.approx(values[1] / values[0] - 1)


def test_the_command_writes_json_and_a_figure(pair: tuple[Results, Results], tmp_path: Path) -> None:
    out, figure = tmp_path / "out.json", tmp_path / "cdfs.png"
    arguments = ["compare", str(pair[0].path), str(pair[1].path), "--json", str(out), "--figure", str(figure)]
    cli.main(arguments, standalone_mode=False)
    result = json.loads(out.read_text())
    metric = result["policies"]["srtf"]["mean_ttft_ms"]
    assert metric["relative_error"] == pytest.approx(metric["simulated"] / metric["real"] - 1)
    assert set(result["speedup_error"]) == {"fcfs", "ranking", "srtf"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    cli.main([*arguments[:3], "--again", str(pair[1].path), "--json", str(out)], standalone_mode=False)
    assert json.loads(out.read_text())["policies"]["srtf"]["mean_ttft_ms"]["spread"] > 0


def test_nothing_in_common_is_an_error(pair: tuple[Results, Results], tmp_path: Path) -> None:
    study = make_study({**STUDY, "request_rate": "3", "max_model_len": 4096})
    other = run_study(study, tmp_path / "other", jobs=1)
    with pytest.raises(InputError, match="no policy and load in common"):
        compare_results(pair[0], other)
