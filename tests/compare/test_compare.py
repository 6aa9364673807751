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
from simsched.compare import DEFAULT_METRICS, PRIMARY, Comparison, compare, samples_of, verdict
from simsched.compare.deciles import by_decile, requests_at
from simsched.compare.directories import compare_directories
from simsched.compare.phrases import load_text
from simsched.compare.statistics import holm, kendall_tau, paired_ratio, unpaired_ratio
from simsched.compare.text import directory_text, remark
from simsched.errors import InputError
from simsched.results import Results
from simsched.session_metrics import SESSION_METRICS
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
    rows = {row.arm: row for row in comparison.rows}
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
        "  Mean latency per token: no significant difference (3 runs) between ranking, fcfs and mlfq",
    ]


def test_the_unfinished_cannot_win(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", unfinished={"ranking": 5})
    comparison = compare(results)
    text = directory_text(results, comparison)
    assert not any("ranking is best" in line for line in verdict(comparison))
    assert any("mlfq is best" in line for line in verdict(comparison))
    assert "ranking left 30 requests unfinished" in text
    assert all(row.unfinished == (15 if row.arm == "ranking" else 0) for row in comparison.rows)


def test_one_run_says_so(tmp_path: Path) -> None:
    comparison = compare(make_results(tmp_path / "out", runs=1))
    assert all(row.significant is None for row in comparison.rows)
    assert "One run: no intervals" in comparison.to_table()
    assert any("ranking is best" in line and "[" not in line for line in verdict(comparison))


def test_one_run_of_equals_has_no_winner(tmp_path: Path) -> None:
    """Nobody is "1.00 times" better than another."""
    lines = verdict(compare(make_results(tmp_path / "two", policies=("sjf", "ljf"), runs=1), baseline="sjf"))
    assert all(line.endswith("sjf and ljf are identical") for line in lines if line[0] == " ")
    lines = verdict(compare(make_results(tmp_path / "three", policies=("fcfs", "sjf", "ljf"), runs=1)))
    assert "than fcfs; identical: ljf" in lines[1]


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
    assert lines[1].endswith("srtf comes first, significantly ahead of sjf but not of fcfs")


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
    requests = requests_at(results, samples_of(results), 1)
    assert requests.height == 3 * 2 * 500
    deciles = by_decile(requests, "e2el")
    assert deciles.height == 30
    assert deciles["requests"].min() > 80
    first = deciles.filter(arm="fcfs", decile=1)
    mine = requests.filter(pl.col("policy") == "fcfs", pl.col("num_output_tokens") <= first["longest"][0])
    assert first["mean"][0] == pytest.approx((mine["finish_time"] - mine["arrival_time"]).mean())


def test_baseline_by_name_or_specification(tmp_path: Path) -> None:
    results = make_results(
        tmp_path / "out", policies=("fcfs", "mlfq(threshold=2)", "mlfq(threshold=10)"), runs=1
    )
    assert compare(results, "mlfq(threshold=2)").baseline == "mlfq(threshold=2)"
    with pytest.raises(InputError, match="--baseline mlfq: fits 2 arms of these results"):
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
    rows = {row.arm: row for row in found.rows}
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
    with pytest.raises(
        InputError, match=r"in common: .*a has fcfs, mlfq and ranking at 2 .*; .*c has po at 2 "
    ):
        compare_directories(a, c)
    with pytest.raises(InputError, match="--baseline srtf: fits no arm"):
        compare_directories(a, b, "srtf")
    assert (
        compare_directories(a, make_results(tmp_path / "d", policies=("mlfq",)), "ranking").baseline is None
    )


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
    assert parsed["baseline"] == {"policy": "fcfs"}
    none = ("request_goodput", *SESSION_METRICS)  # no goodput was asked for, and there are no sessions
    defined = [name for name in DEFAULT_METRICS if name not in none]
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
    from simsched.compare.lower_bound import bounds_of_results
    from simsched.sweep.execute import run_study
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
    assert requests_at(results, comparison.samples, 1).height == 3 * 2 * 200


def at_one_load(path: Path, values: dict[str, list[float]]) -> Comparison:
    """A comparison on the primary metric, which takes these values over runs."""
    runs = len(next(iter(values.values())))
    results = make_results(path, policies=tuple(values), rates=(8.0,), runs=runs, metrics=primary(values))
    return compare(results, metrics=[PRIMARY])


def test_the_verdict_has_the_tables_rule(tmp_path: Path) -> None:
    """A ratio that is significant by itself and not among four is a tie in both, and the row says why."""
    noise = [1.0, 1.3, 0.9, 1.2, 1.1]
    slower = {"mlfq": 0.02, "po": -0.02, "sjf": 0.01, "ljf": -0.01}
    values = {"fcfs": noise, "ranking": [0.9 * x * (1 + 0.065 * (-1) ** i) for i, x in enumerate(noise)]}
    values |= {name: [x * (1 + by * (-1) ** i) for i, x in enumerate(noise)] for name, by in slower.items()}
    comparison = at_one_load(tmp_path / "out", values)
    row = next(row for row in comparison.rows if row.arm == "ranking")
    assert row.ratio is not None
    assert row.ratio.p is not None
    assert row.ratio.p < 0.05 < (row.p_holm or 0)
    assert remark(row) == "no significant difference after Holm's correction"
    line = verdict(comparison)[1]
    assert "ranking is best" not in line
    assert "no significant difference (5 runs) between ranking" in line


def test_a_ratio_that_rounds_to_one_is_no_lead(tmp_path: Path) -> None:
    runs = [1.0, 2.0, 3.0]
    shorter = [0.998 * x * (1 + 1e-5 * i) for i, x in enumerate(runs)]
    values = {"fcfs": [2 * x for x in runs], "ranking": runs, "srtf": shorter}
    comparison = at_one_load(tmp_path / "out", values)
    assert verdict(comparison)[1].endswith("2.00 times lower [2.00, 2.00] than fcfs; within 0.5 %: ranking")


def test_runs_that_repeat_one_another_are_not_called_tested(tmp_path: Path) -> None:
    comparison = at_one_load(tmp_path / "out", {"fcfs": [1.002] * 3, "ranking": [1.0] * 3})
    assert verdict(comparison)[1].endswith("ranking and fcfs are within 0.5 %")
    text = comparison.to_table()
    assert "All 3 runs are alike" in text
    assert "significant" not in text


def test_two_runs_come_with_a_warning(tmp_path: Path) -> None:
    two = at_one_load(tmp_path / "two", {"fcfs": [2.0, 3.0], "ranking": [1.0, 1.4]})
    assert any("Two runs can hardly show a difference" in note for note in two.notes)
    three = at_one_load(tmp_path / "three", {"fcfs": [2.0, 3.0, 2.0], "ranking": [1.0, 1.4, 1.1]})
    assert not any("runs" in note for note in three.notes)


def with_capacity(results: Results, capacity: dict[str, float]) -> Results:
    """The same results, of engines with these capacities by the value of max_num_seqs."""
    of = {cell: capacity[str(options.get("max_num_seqs"))] for cell, options in results.cells.items()}
    return Results(results.path, {**results.manifest, "capacity": of})


def test_what_is_not_steady_is_said(tmp_path: Path) -> None:
    """Of the made-up runs a backlog that grows is one whose summary says so."""
    results = make_results(tmp_path / "out", rates=(2.0, 10.0), n=600)
    grown = {"steady": False, "growth": 3.25, "growth_low": 3.0, "growth_high": 3.5}
    settled = {"steady": True, "growth": 0.0, "growth_low": -0.01, "growth_high": 0.01}
    summary = json.loads((results.path / "summary.json").read_text())
    for row in summary["cells"]:
        row |= grown if row["request_rate"] == 10 and row["policy"] == "fcfs" else settled
    (results.path / "summary.json").write_text(json.dumps(summary))
    comparison = compare(with_capacity(Results.open(results.path), {"None": 9.5}))
    (note,) = (note for note in comparison.notes if note.startswith("Not steady"))
    assert note == (
        "Not steady at 10 req/s: so many more requests wait every second: fcfs 3.2. "
        "Latencies there grow with the length of the run (60 s of arrivals)."
    )
    assert [row.growing for row in comparison.rows if row.metric == PRIMARY] == [False] * 3 + [True] + [
        False
    ] * 2
    assert verdict(comparison)[0] == "At the highest load (10 req/s, 1.1 times the capacity):"
    found = comparison.to_dict()["loads"]
    assert [each["steady"]["fcfs"] for each in found] == [True, False]


def test_few_requests_behind_a_p99_are_said(tmp_path: Path) -> None:
    few = compare(make_results(tmp_path / "few", rates=(8.0,), n=250))
    assert "A P99 rests on few requests: of 250 in a run, 2 are beyond it." in few.notes
    many = compare(make_results(tmp_path / "many", rates=(8.0,), n=1000))
    assert not any("P99" in note for note in many.notes)


def engines(path: Path) -> Results:
    """Two policies on three engines, which differ by how long they take a token."""
    per_token = {("fcfs", 64): 40.0, ("fcfs", 128): 20.0, ("fcfs", 256): 10.0}
    per_token |= {("ranking", 64): 30.0, ("ranking", 128): 25.0, ("ranking", 256): 12.0}
    results = make_results(
        path, policies=("fcfs", "ranking"), rates=(8.0, 10.0), extra={"max_num_seqs": [64, 128, 256]}
    )
    summary = json.loads((results.path / "summary.json").read_text())
    for row in summary["cells"]:
        most = row["max_num_seqs"]
        row[PRIMARY] = per_token[row["policy"], most] * (1 + 1e-5 * row["run"] * most)
    (results.path / "summary.json").write_text(json.dumps(summary))
    return Results.open(results.path)


def test_an_engine_option_makes_arms_not_loads(tmp_path: Path) -> None:
    comparison = compare(engines(tmp_path / "out"), "fcfs,max_num_seqs=64", metrics=[PRIMARY])
    assert comparison.loads == [{"request_rate": 8.0}, {"request_rate": 10.0}]
    assert comparison.arms[:3] == [
        "fcfs, max_num_seqs=64",
        "ranking, max_num_seqs=64",
        "fcfs, max_num_seqs=128",
    ]
    assert comparison.baseline == "fcfs, max_num_seqs=64"
    assert "fcfs, max_num_seqs=256 is best, 3.99 times lower" in verdict(comparison)[1]
    found = json.loads(json.dumps(comparison.to_dict()))
    assert found["baseline"] == {"policy": "fcfs", "max_num_seqs": 64}
    assert found["best"][PRIMARY]["arm"] == {"policy": "fcfs", "max_num_seqs": 256}
    assert found["best"][PRIMARY]["significant"] is True
    assert [each["load"] for each in found["loads"]] == [{"request_rate": 8.0}, {"request_rate": 10.0}]
    assert len(found["arms"]) == 6


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "fcfs, max_num_seqs=64"),
        ("fcfs,max_num_seqs=256", "fcfs, max_num_seqs=256"),
        ("fcfs, max_num_seqs=256", "fcfs, max_num_seqs=256"),
        ("ranking,max-num-seqs=128", "ranking, max_num_seqs=128"),
        ("max_num_seqs=128", "fcfs, max_num_seqs=128"),
    ],
)
def test_a_baseline_is_an_arm(tmp_path: Path, wanted: str | None, expected: str) -> None:
    assert compare(engines(tmp_path / "out"), wanted, metrics=[PRIMARY]).baseline == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("fcfs", "fits 3 arms"),
        ("fcfs,max_num_seqs=512", "fits no arm"),
        ("fcfs,block_size=16", "no option block_size varies here"),
        ("fcfs,ranking", "two policies"),
    ],
)
def test_a_baseline_that_is_no_arm_is_refused(tmp_path: Path, wanted: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(engines(tmp_path / "out"), wanted)


def test_where_holds_an_option_fixed(tmp_path: Path) -> None:
    found = compare(engines(tmp_path / "out"), metrics=[PRIMARY], where={"max_num_seqs": "128"})
    assert found.arms == ["fcfs", "ranking"]
    with pytest.raises(InputError, match="no cell with max_num_seqs 100; expected one of 64, 128, 256"):
        compare(engines(tmp_path / "again"), where={"max_num_seqs": "100"})


def test_the_best_of_the_table_is_the_best_of_the_verdict(tmp_path: Path) -> None:
    """One run decides the mean, most runs say the opposite: the two are not told apart."""
    comparison = at_one_load(
        tmp_path / "out", {"fcfs": [1.0, 1.0, 1.0, 9.0], "ranking": [1.1, 1.1, 1.1, 8.0]}
    )
    best = comparison.best(PRIMARY, 0)
    assert best is not None
    assert (best.arm, best.significant) == ("ranking", False)
    assert list(best.tied) == ["fcfs"]


def test_loads_ascend_whatever_was_typed_first(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(8.0, 11.48, 2.0, math.inf, None))
    assert [load["request_rate"] for load in compare(results).loads] == [None, 2.0, 8.0, 11.48, math.inf]


def test_long_times_are_in_seconds(tmp_path: Path) -> None:
    slow = {"fcfs": 12_345.0, "mlfq": 9_000.0, "ranking": 10.0}
    results = make_results(
        tmp_path / "out",
        rates=(4.0,),
        metrics=lambda policy, rate, run: {"mean_ttft_ms": slow[policy], "p99_ttft_ms": 9_999.0},
    )
    text = directory_text(results, compare(results, metrics=["mean_ttft_ms", "p99_ttft_ms"]))
    table = text.partition("\n\n")[0].splitlines()
    assert table[0] == "Mean time to first token (s)"
    assert table[2].split()[:2] == ["fcfs", "12.3"]
    assert table[4].split()[:2] == ["ranking", "0.0100"]
    assert "\nP99 time to first token (ms)\n" in text
    hidden = next(line for line in text.splitlines() if "TTFT" in line)
    assert "TTFT s" in hidden
    assert "ms/token" in hidden
    twice = compare_directories(results, results, metrics=["mean_ttft_ms"]).to_table()
    assert "Mean time to first token (s)" in twice
    assert " 12.3" in twice


def test_the_first_policy_is_the_baseline_where_there_is_no_fcfs(tmp_path: Path) -> None:
    make_results(tmp_path / "out", policies=("po", "ranking"))
    shown = CliRunner().invoke(compare_command, [str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "/ po" in shown.output


def test_no_tau_is_minus_zero(tmp_path: Path) -> None:
    goods = {"fcfs": (1.0, 1.0), "mlfq": (2.0, 4.0), "po": (3.0, 3.0), "ranking": (4.0, 2.0)}
    results = make_results(
        tmp_path / "out",
        policies=tuple(goods),
        rates=(4.0,),
        metrics=lambda policy, rate, run: {PRIMARY: goods[policy][0], "output_throughput": goods[policy][1]},
    )
    comparison = compare(results, metrics=[PRIMARY, "output_throughput"])
    assert comparison.taus()[0, "output_throughput"] == 0
    assert "-0.00" not in comparison.to_table()


def test_how_the_results_were_made_is_said(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out")
    noted = Results(results.path, {**results.manifest, "notes": ["a trace is replayed alike in every run"]})
    assert "a trace is replayed alike in every run" in directory_text(noted, compare(noted))


def test_runs_of_equal_seeds_and_other_requests_are_not_paired(tmp_path: Path) -> None:
    long, short = make_results(tmp_path / "a", n=200), make_results(tmp_path / "b", n=100)
    found = compare_directories(long, short)
    assert not found.paired
    assert "Runs have other requests" in found.to_table()
    assert "Runs have the same seeds and requests" in compare_directories(long, long).to_table()


def test_what_two_studies_differ_in_is_said(tmp_path: Path) -> None:
    results = make_results(tmp_path / "a")
    a, b = (
        Results(results.path, {**results.manifest, "study": {"duration": seconds, "arrivals": arrivals}})
        for seconds, arrivals in ((60.0, []), (10.0, ["uniform"]))
    )
    found = compare_directories(a, b)
    assert not found.paired
    said = "Their studies differ in duration (60.0 in A, 10.0 in B); arrivals (not given in A, uniform in B)."
    assert said in found.notes


def test_a_capacity_that_is_surpassed_is_not_gone_by(tmp_path: Path) -> None:
    """It leaves out prefix hits: with many of them an engine serves more, and nothing queues."""
    results = make_results(
        tmp_path / "out",
        rates=(8.0, 12.0),
        metrics=lambda policy, rate, run: {"request_throughput": 0.95 * (rate or 0)},
    )
    comparison = compare(with_capacity(results, {"None": 6.0}))
    assert not any("capacity" in line for line in (*comparison.notes, *verdict(comparison)))


def test_the_best_goodput_is_named_where_the_baseline_has_none(tmp_path: Path) -> None:
    good = {"fcfs": 0.0, "mlfq": 0.5, "ranking": 2.0}
    results = make_results(
        tmp_path / "out",
        rates=(8.0,),
        metrics=lambda policy, rate, run: {"request_goodput": good[policy]},
    )
    line = verdict(compare(results))[-1]
    assert (
        line
        == "  Goodput: ranking is best (2.00 req/s); fcfs: 0 req/s; 4.00 times higher than mlfq, the next"
    )
