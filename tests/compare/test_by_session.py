"""Sessions in place of requests, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.cli.compare import compare_command
from simsched.compare import samples_of
from simsched.compare.sessions import by_session
from simsched.errors import InputError
from simsched.results import Results
from simsched.sweep.execute import run_study
from simsched.sweep.study import make_study


def results_of(folder: Path, rows: list[dict[str, object]], policy: str = "fcfs") -> Results:
    path = folder / "t.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    study = make_study({"policy": policy, "trace": str(path), "max_num_seqs": 2})
    return run_study(study, folder / "out", jobs=1)


def test_a_session_lasts_from_its_first_arrival_to_its_last_answer(tmp_path: Path) -> None:
    size = {"input_length": 40, "output_length": 10}
    results = results_of(tmp_path, [
        {"session_id": "a", "timestamp": 0, **size},
        {"session_id": "b", "timestamp": 1, **size},
        {"session_id": "a", "think_time": 2, **size},
        {"timestamp": 3, **size},
    ])  # fmt: skip
    arrival, finish = (results.requests[name].to_list() for name in ("arrival_time", "finish_time"))
    (row,) = by_session(results, samples_of(results), 0, "fcfs").rows
    assert (row.arm, row.sessions, row.turns, row.unfinished) == ("fcfs", 2, 1.5, 0)
    assert row.mean_first_answer_s == pytest.approx((finish[0] + finish[1] - 1) / 2)
    assert row.mean_completion_s == pytest.approx((finish[2] + finish[1] - 1) / 2)
    assert arrival[2] == finish[0] + 2
    assert row.completion_ratio is None


def test_ratios_are_session_by_session(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for name in range(40):
        rows.append({"session_id": name, "timestamp": 0, "input_length": 50, "output_length": 10 + 9 * name})
        rows.append({"session_id": name, "think_time": 0.1, "input_length": 900, "output_length": 20})
    results = results_of(tmp_path, rows, "fcfs,srtf")
    fcfs, srtf = by_session(results, samples_of(results), 0, "fcfs").rows
    assert fcfs.completion_ratio is None
    assert srtf.completion_ratio is not None
    assert srtf.completion_ratio < 1
    shown = CliRunner().invoke(compare_command, [str(tmp_path / "out"), "--by", "session"])
    assert shown.exit_code == 0, shown.output
    assert "completion s" in shown.output
    asked = CliRunner().invoke(compare_command, [str(tmp_path / "out"), "--by", "session", "--json"])
    assert [row["sessions"] for row in json.loads(asked.output)["groups"]["rows"]] == [40, 40]


def test_without_sessions_it_is_refused(tmp_path: Path) -> None:
    results = results_of(tmp_path, [{"timestamp": 0, "input_length": 40, "output_length": 10}])
    with pytest.raises(InputError, match="--by session: these requests have no session_id"):
        by_session(results, samples_of(results), 0, "fcfs")


def test_the_interval_is_over_runs(tmp_path: Path) -> None:
    study = make_study({
        "policy": "fcfs,srtf", "workload": "vllm-multi-turn", "arrivals": "users(9)", "num_requests": 80,
        "num_runs": 3, "max_num_seqs": 4, "async_scheduling": False,
    })  # fmt: skip
    results = run_study(study, tmp_path / "out", jobs=1)
    fcfs, srtf = by_session(results, samples_of(results), 0, "fcfs").rows
    assert fcfs.completion_ratio_ci is None
    assert srtf.completion_ratio is not None
    assert srtf.completion_ratio_ci is not None
    low, high = srtf.completion_ratio_ci
    assert low < srtf.completion_ratio < high
    assert srtf.mean_slowdown is not None
    assert fcfs.mean_slowdown is not None
    assert fcfs.mean_slowdown > 1
