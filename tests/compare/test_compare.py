"""Comparisons: known ratios are found, chance is not taken for a result, nothing is hidden."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import stats

from simsched.cli.compare import compare_command
from simsched.compare import DEFAULT_METRICS, PRIMARY, compare, verdict
from simsched.compare.deciles import by_decile, requests_at
from simsched.compare.directories import compare_directories
from simsched.compare.statistics import holm, kendall_tau, paired_ratio, unpaired_ratio
from simsched.compare.text import directory_text
from simsched.compare.words import load_text
from simsched.errors import InputError
from simsched.results import Results
from tests.fake_results import make_results


def primary(values: dict[str, list[float]]) -> object:
    """Metrics where a policy's primary metric takes these values over runs, whatever the rate."""
    return lambda policy, rate, run: {PRIMARY: values[policy][run]}


def test_paired_ratio_is_the_paired_t_test_on_logs() -> None:
    a, b = [2.0, 3.0, 5.0, 4.0], [1.1, 1.4, 2.2, 2.1]
    found = paired_ratio(a, b)
    logs = np.log(a) - np.log(b)
    test = stats.ttest_1samp(logs, 0.0)
    interval = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert found.ratio == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))


def test_intervals_cover_as_they_say_with_three_runs() -> None:
    rng = np.random.default_rng(0)
    covered = differ = 0
    for _ in range(2000):
        seeds = rng.lognormal(0, 1, 3)  # runs differ far more than policies
        baseline = seeds * rng.lognormal(0, 0.05, 3)
        found = paired_ratio(seeds * 1.2 * rng.lognormal(0, 0.05, 3), baseline)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.2 <= found.high
        same = paired_ratio(seeds * rng.lognormal(0, 0.05, 3), baseline)
        differ += same.p is not None and same.p < 0.05
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)
    assert differ / 2000 == pytest.approx(0.05, abs=0.015)


def test_unpaired_ratio_is_welchs_test_on_logs() -> None:
    a, b = [2.0, 3.0, 5.0, 4.0], [1.1, 1.4, 2.2]
    found = unpaired_ratio(a, b)
    test = stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    assert found.p == pytest.approx(test.pvalue)
    assert found.low == pytest.approx(math.exp(test.confidence_interval(0.95).low))


def test_one_run_has_no_interval() -> None:
    assert paired_ratio([2.0], [1.0]) == (2.0, None, None, None, 1)
    assert unpaired_ratio([2.0], [1.0, 1.0]).low is None


def test_equal_samples_do_not_differ() -> None:
    assert paired_ratio([1.5, 2.5], [1.5, 2.5]) == (1.0, 1.0, 1.0, 1.0, 2)


def test_runs_that_repeat_one_another_have_no_interval() -> None:
    assert paired_ratio([3.0, 3.0], [1.0, 1.0]) == (pytest.approx(3.0), None, None, None, 2)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_kendall_tau() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert math.isnan(kendall_tau([1.0], [1.0]))


def test_pairing_finds_what_the_spread_over_seeds_hides(tmp_path: Path) -> None:
    """Runs differ by a factor of nine, policies by 10 %: paired, that is plain."""
    runs = [1.0, 3.0, 9.0, 2.0]
    results = make_results(
        tmp_path / "out",
        policies=("fcfs", "ranking", "mlfq"),
        rates=(4.0,),
        runs=4,
        metrics=primary(
            {
                "fcfs": runs,
                "ranking": [0.9 * x * (1 + 0.002 * i) for i, x in enumerate(runs)],
                "mlfq": [x * (1.2, 0.8, 1.1, 0.95)[i] for i, x in enumerate(runs)],
            }
        ),
    )
    comparison = compare(results, metrics=[PRIMARY])
    rows = {row.policy: row for row in comparison.rows}
    assert rows["fcfs"].ratio is None
    ranking = rows["ranking"].ratio
    assert ranking is not None
    assert ranking.ratio == pytest.approx(0.9027, rel=1e-3)
    assert rows["ranking"].significant is True
    assert rows["mlfq"].significant is False
    text = comparison.to_table()
    assert "no significant difference" in next(line for line in text.splitlines() if "mlfq" in line)
    assert "Holm" in text
    assert any("ranking is best, 1.11 times lower" in line for line in verdict(comparison))


def test_no_winner_where_nothing_differs(tmp_path: Path) -> None:
    values = {"fcfs": [1.0, 2.0, 3.0], "mlfq": [1.1, 1.9, 3.05], "ranking": [0.95, 2.1, 2.9]}
    results = make_results(tmp_path / "out", rates=(4.0,), metrics=primary(values))
    lines = verdict(compare(results), [PRIMARY])
    assert lines == [
        "In these runs:",
        "  Mean latency per token: no significant difference between ranking, fcfs and mlfq",
    ]


def test_the_unfinished_cannot_win(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", unfinished={"ranking": 5})
    comparison = compare(results)
    text = directory_text(results, comparison)
    assert not any("ranking is best" in line for line in verdict(comparison))
    assert any("mlfq is best" in line for line in verdict(comparison))
    assert "ranking left 30 requests unfinished" in text
    assert all(row.unfinished == (15 if row.policy == "ranking" else 0) for row in comparison.rows)


def test_one_run_says_so(tmp_path: Path) -> None:
    comparison = compare(make_results(tmp_path / "out", runs=1))
    assert all(row.significant is None for row in comparison.rows)
    assert "One run: no intervals" in comparison.to_table()
    assert any("ranking is best" in line and "[" not in line for line in verdict(comparison))


def test_one_run_of_equals_has_no_winner(tmp_path: Path) -> None:
    """Nobody is "1.00 times" better than another."""
    lines = verdict(compare(make_results(tmp_path / "two", policies=("sjf", "ljf"), runs=1), baseline="sjf"))
    assert all("no difference between sjf and ljf" in line for line in lines if line[0] == " ")
    lines = verdict(compare(make_results(tmp_path / "three", policies=("fcfs", "sjf", "ljf"), runs=1)))
    assert "than fcfs; no difference from ljf" in lines[1]


def test_a_tie_across_a_policy_in_between_is_told(tmp_path: Path) -> None:
    """The second is surely behind the first; the third, which varies, is not."""
    values = {"srtf": (1.0, 1.0, 1.0), "sjf": (1.10, 1.11, 1.12), "fcfs": (0.9, 3.0, 1.1)}
    results = make_results(
        tmp_path / "out",
        policies=tuple(values),
        rates=(8.0,),
        metrics=lambda policy, rate, run: {"mean_ttft_ms": values[policy][run]},
    )
    lines = verdict(compare(results, metrics=["mean_ttft_ms"]), ["mean_ttft_ms"])
    assert lines[1].endswith("srtf comes first, but significantly ahead of sjf alone")


def test_an_order_shows_who_is_equal(tmp_path: Path) -> None:
    values = {"fcfs": 3.0, "mlfq": 3.0, "ranking": 1.0}
    results = make_results(
        tmp_path / "out",
        policies=tuple(values),
        rates=(4.0,),
        metrics=lambda policy, rate, run: {PRIMARY: values[policy], "mean_ttft_ms": 7.0},
    )
    text = compare(results, metrics=[PRIMARY, "mean_ttft_ms"]).to_table()
    assert "ranking, fcfs = mlfq\n" in text
    assert "fcfs = mlfq = ranking\n" in text


def test_order_of_policies_differs_between_metrics(tmp_path: Path) -> None:
    slow = {"fcfs": 3.0, "mlfq": 2.0, "ranking": 1.0}
    results = make_results(
        tmp_path / "out",
        rates=(4.0,),
        metrics=lambda policy, rate, run: {
            PRIMARY: slow[policy] + run,
            "mean_ttft_ms": 9 / slow[policy] + run,
        },
    )
    comparison = compare(results, metrics=[PRIMARY, "mean_ttft_ms"])
    assert comparison.taus() == {(0, PRIMARY): 1.0, (0, "mean_ttft_ms"): -1.0}
    assert comparison.samples.order(0, PRIMARY) == ["ranking", "mlfq", "fcfs"]
    assert comparison.samples.order(0, "mean_ttft_ms") == ["fcfs", "mlfq", "ranking"]


def test_throughput_is_better_when_higher(tmp_path: Path) -> None:
    served = {"fcfs": 1.0, "mlfq": 2.0, "ranking": 3.0}
    results = make_results(
        tmp_path / "out",
        rates=(4.0,),
        metrics=lambda policy, rate, run: {"output_throughput": served[policy] * (1 + run)},
    )
    comparison = compare(results, metrics=["output_throughput"])
    assert comparison.samples.order(0, "output_throughput") == ["ranking", "mlfq", "fcfs"]
    assert "ranking is best, 3.00 times higher" in verdict(comparison)[1]


def test_zeros_have_no_ratio(tmp_path: Path) -> None:
    results = make_results(
        tmp_path / "out",
        rates=(4.0,),
        metrics=lambda policy, rate, run: {"num_preemptions": 0 if policy == "fcfs" else 4},
    )
    comparison = compare(results, metrics=["num_preemptions"])
    assert all(row.ratio is None for row in comparison.rows)
    assert "4.00" in comparison.to_table()


def test_bounds_stand_beside_means(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(4.0,), runs=2)
    bounds = {cell: {PRIMARY: 5.0 + 2 * options["run"]} for cell, options in results.cells.items()}
    comparison = compare(results, metrics=[PRIMARY, "p99_ttft_ms"], bounds=bounds)
    assert {row.bound for row in comparison.rows if row.metric == PRIMARY} == {6.0}
    assert {row.bound for row in comparison.rows if row.metric == "p99_ttft_ms"} == {None}
    assert "/ bound" in comparison.to_table()


def test_deciles_hold_a_tenth_each_and_average_right(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(2.0, 4.0), runs=2, n=500)
    requests = requests_at(results, {"request_rate": 4.0})
    assert requests.height == 3 * 2 * 500
    deciles = by_decile(requests, "e2el")
    assert deciles.height == 30
    assert deciles["requests"].min() > 80
    first = deciles.filter(policy="fcfs", decile=1)
    mine = requests.filter(pl.col("policy") == "fcfs", pl.col("num_output_tokens") <= first["longest"][0])
    assert first["mean"][0] == pytest.approx((mine["finish_time"] - mine["arrival_time"]).mean())


def test_baseline_by_name_or_specification(tmp_path: Path) -> None:
    results = make_results(
        tmp_path / "out", policies=("fcfs", "mlfq(threshold=2)", "mlfq(threshold=10)"), runs=1
    )
    assert compare(results, "mlfq(threshold=2)").baseline == "mlfq(threshold=2)"
    with pytest.raises(InputError, match=r"--baseline mlfq: .*expected fcfs, mlfq"):
        compare(results, "mlfq")
    with pytest.raises(InputError, match="--metric speed: unknown"):
        compare(results, metrics=["speed"])


def test_two_directories_pair_equal_seeds(tmp_path: Path) -> None:
    values = {"fcfs": [1.0, 2.0, 4.0], "mlfq": [0.5, 1.0, 2.0], "ranking": [0.25, 0.5, 1.0]}
    worse = {name: [1.1 * x for x in each] for name, each in values.items()} | {"ranking": [0.5, 1.0, 2.0]}
    a = make_results(tmp_path / "a", rates=(4.0, 8.0), metrics=primary(values))
    b = make_results(tmp_path / "b", rates=(4.0,), metrics=primary(worse))
    found = compare_directories(a, b, metrics=[PRIMARY])
    assert found.paired
    rows = {row.policy: row for row in found.rows}
    assert len(found.rows) == 3
    assert rows["fcfs"].ratio is not None
    assert rows["fcfs"].ratio.ratio == pytest.approx(1.1)
    assert rows["ranking"].first_speedup == pytest.approx(4.0)
    assert rows["ranking"].second_speedup == pytest.approx(2.2)
    assert rows["ranking"].speedup_error == pytest.approx(4.0 / 2.2 - 1)
    assert found.taus[0][2] == pytest.approx(1.0)
    assert "1 load in common; 1 only in A" in found.to_table()


def test_two_directories_with_other_seeds_are_not_paired(tmp_path: Path) -> None:
    a, b = make_results(tmp_path / "a", runs=3), make_results(tmp_path / "b", runs=2)
    found = compare_directories(a, b)
    assert not found.paired
    assert "Welch" in found.to_table()
    c = make_results(tmp_path / "c", policies=("po",), runs=1)
    with pytest.raises(InputError, match="no policy and load in common"):
        compare_directories(a, c)


def test_loads_in_words() -> None:
    assert load_text({"request_rate": 8.0, "workload": "lmsys"}) == "8 req/s, workload lmsys"
    assert load_text({"request_rate": None}) == "arrivals as given"
    assert load_text({"request_rate": math.inf}) == "all at once"
    assert load_text({}) == ""


def test_command_prints_tables_and_json(tmp_path: Path) -> None:
    make_results(tmp_path / "out")
    shown = CliRunner().invoke(compare_command, [str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    for part in (
        "Mean latency per token (ms)",
        "95 % interval",
        "What a mean hides",
        "by output length",
        "No bounds",
    ):
        assert part in shown.output
    parsed = json.loads(CliRunner().invoke(compare_command, [str(tmp_path / "out"), "--json"]).output)
    assert parsed["baseline"] == "fcfs"
    defined = [name for name in DEFAULT_METRICS if name != "request_goodput"]
    assert {row["metric"] for row in parsed["rows"]} == set(defined)
    assert len(parsed["rows"]) == len(defined) * 2 * 3


def test_command_compares_two(tmp_path: Path) -> None:
    make_results(tmp_path / "a")
    make_results(tmp_path / "b")
    shown = CliRunner().invoke(
        compare_command, [str(tmp_path / "a"), str(tmp_path / "b"), "--metric", PRIMARY]
    )
    assert "speed-up in A" in shown.output
    refused = CliRunner().invoke(compare_command, [str(tmp_path / "a")] * 3)
    assert isinstance(refused.exception, InputError)
    assert isinstance(CliRunner().invoke(compare_command, [str(tmp_path / "none")]).exception, InputError)


def test_bounds_of_a_real_run(tmp_path: Path) -> None:
    """The requests are made again from the manifest; changed inputs give no bounds."""
    from simsched.compare.best_possible import bounds_of_results
    from simsched.sweep import run_study
    from simsched.sweep.study import make_study

    study = make_study({"policy": "fcfs,srtf", "request_rate": "8", "num_requests": 60, "num_runs": 2})
    results = run_study(study, tmp_path / "out", jobs=1)
    bounds, reason = bounds_of_results(results)
    assert reason == ""
    assert set(bounds) == set(results.cells)
    comparison = compare(results, bounds=bounds)
    judged = [row for row in comparison.rows if row.metric in ("mean_e2el_ms", PRIMARY)]
    assert judged
    assert all(row.bound and row.value and 0.2 * row.value < row.bound <= row.value for row in judged)

    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["sha256"] = dict.fromkeys(manifest["sha256"], "0" * 64)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    bounds, reason = bounds_of_results(Results.open(tmp_path / "out"))
    assert bounds == {}
    assert "inputs have changed" in reason


def test_a_burst_is_the_highest_load_and_valid_json(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(8.0, math.inf), runs=2)
    comparison = compare(results)
    assert verdict(comparison)[0] == "At the highest load (all at once):"
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert {row["request_rate"] for row in found["rows"]} == {8.0, "inf"}
    assert requests_at(results, comparison.loads[1]).height == 3 * 2 * 200
