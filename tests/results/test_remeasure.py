"""Measured anew: what is asked for changes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.compare import compare_command
from simsched.compare import samples_of
from simsched.compare.groups import by_group
from simsched.errors import InputError
from simsched.results import parse_window, remeasure
from simsched.sweep.execute import run_study
from simsched.sweep.study import make_study
from tests.fake_results import make_results


@pytest.mark.parametrize(
    ("text", "expected"),
    [("60:600", (60.0, 600.0)), (":600", (0.0, 600.0)), ("60:", (60.0, float("inf"))), ("auto", "auto")],
)
def test_windows(text: str, expected: object) -> None:
    assert parse_window(text) == expected


@pytest.mark.parametrize("text", ["60", "600:60", "a:b", "-1:5", ""])
def test_bad_windows_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--window .*expected START:END"):
        parse_window(text)


def test_nothing_asked_changes_nothing(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out")
    assert remeasure(results).summary.equals(results.summary)


def test_other_limits_are_those_of_a_run_with_them(tmp_path: Path) -> None:
    options = {"policy": "fcfs,srtf", "request_rate": "14", "num_requests": 300, "max_num_seqs": 32}
    plain = run_study(make_study(options), tmp_path / "plain", jobs=1)
    asked = run_study(make_study({**options, "goodput": "ttft:200,tpot:20"}), tmp_path / "asked", jobs=1)
    found = remeasure(plain, goodput={"ttft": 200, "tpot": 20})
    for name in ("good_share", "request_goodput", "mean_ttft_ms", "p99_itl_ms", "steady"):
        assert found.summary[name].to_list() == asked.summary[name].to_list()
    assert 0 < found.summary["good_share"][0] < 1


def test_a_window_counts_what_arrives_in_it(tmp_path: Path) -> None:
    results = make_results(tmp_path / "out", rates=(8.0,), runs=1)
    found = remeasure(results, window=(5.0, 15.0))
    requests = results.requests.filter(policy="fcfs")
    inside = requests.filter(requests["arrival_time"].is_between(5.0, 15.0))
    row = found.summary.row(0, named=True)
    assert row["num_requests"] == inside.height
    ttft = (inside["first_token_time"] - inside["arrival_time"]).mean()
    assert row["mean_ttft_ms"] == pytest.approx(1e3 * float(str(ttft)))
    assert row["p99_itl_ms"] is None
    assert row["mean_itl_ms"] is not None
    with pytest.raises(InputError, match="nothing arrives in it"):
        remeasure(results, window=(1000.0, 2000.0))


def test_tenants_apart_and_how_fair(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0.02 * i, "input_length": 20, "output_length": 5 + 200 * (i % 2), "tenant": "ab"[i % 2]}
        for i in range(200)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    study = make_study({"policy": "fcfs,srtf", "trace": str(tmp_path / "t.jsonl"), "max_num_seqs": 8})
    results = run_study(study, tmp_path / "out", jobs=1)
    assert "tenant" in results.requests.columns
    groups = by_group(results, samples_of(results), 0, "tenant")
    assert [(row.arm, row.group, row.requests) for row in groups.rows] == [
        ("fcfs", "a", 100), ("fcfs", "b", 100), ("srtf", "a", 100), ("srtf", "b", 100),
    ]  # fmt: skip
    for of_arm in groups.fairness.values():
        assert 0.5 <= of_arm["jain"] <= 1
        assert of_arm["max_over_min"] >= 1
    with pytest.raises(InputError, match="--by class: these requests have tenant"):
        by_group(results, samples_of(results), 0, "class")
    out = tmp_path / "c.json"
    shown = CliRunner().invoke(
        compare_command,
        [str(tmp_path / "out"), "--by", "tenant", "--slo", "50% ttft<9s", "--json", str(out), "--no-bounds"],
    )
    assert shown.exit_code == 0, shown.output
    assert "Jain" in shown.output
    answer = json.loads(out.read_text())
    assert answer["groups"]["by"] == "tenant"
    assert {row["arm"]["policy"] for row in answer["slo"]["rows"]} == {"fcfs", "srtf"}
