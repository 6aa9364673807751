"""A vLLM bench result becomes a results directory with what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.cli import main
from simsched.results import Results

BENCH = {
    "request_rate": 2.0,
    "request_throughput": 1.0,
    "total_input_tokens": 30,
    "input_lens": [10, 20, 30],
    "output_lens": [3, 2, 2],
    "start_times": [100.0, 100.5, 101.0],
    "ttfts": [0.1, 0.2, 0.3],
    "itls": [[0.05, 0.07], [0.04], [0.04]],
    "errors": ["", "", ""],
}


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(BENCH))
    return path


def test_measured_times_are_kept(bench: Path) -> None:
    assert command("import", str(bench), "-o", "real", "--goodput", "ttft:250") == 0
    results = Results.open("real")
    (row,) = results.summary.to_dicts()
    assert row["mean_ttft_ms"] == pytest.approx(200)
    assert row["mean_itl_ms"] == pytest.approx(50, rel=1e-3)
    assert row["mean_e2el_ms"] == pytest.approx((220 + 240 + 340) / 3)
    assert row["good_share"] == pytest.approx(2 / 3)
    assert row["request_rate"] == pytest.approx(2.0)
    assert results.requests["arrival_time"].to_list() == [0.0, 0.5, 1.0]
    assert command("import", str(bench), "-o", "real") == 2  # is there
    assert command("compare", "real", "real") == 0


def test_without_start_times_no_throughput_is_known(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = {name: value for name, value in BENCH.items() if name != "start_times"}
    bench.write_text(json.dumps({**older, "errors": ["", "", "refused"]}))
    assert command("import", str(bench), "-o", "real") == 0
    said = capsys.readouterr().err
    assert "throughputs are not known" in said
    assert "1 request failed: counted unfinished" in said
    (row,) = Results.open("real").summary.to_dicts()
    assert row["mean_ttft_ms"] == pytest.approx(150)
    assert (row["request_throughput"], row["output_throughput"], row["duration"]) == (None, None, None)


def test_a_run_without_any_times_is_refused(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write_text(json.dumps({name: value for name, value in BENCH.items() if name != "itls"}))
    assert command("import", str(bench), "-o", "real") == 2
    assert "expected a request with its time to the first token" in capsys.readouterr().err
    assert not Path("real").exists()


def test_a_value_that_cannot_be_is_named(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write_text(json.dumps({**BENCH, "ttfts": [0.1, -2, 0.3]}))
    assert command("import", str(bench), "-o", "real") == 2
    error = capsys.readouterr().err
    assert "ttft -2" in error
    assert error.count("\n") == 1
    assert not Path("real").exists()


def test_an_answer_of_one_token_is_finished(bench: Path) -> None:
    bench.write_text(json.dumps({**BENCH, "output_lens": [3, 1, 2], "itls": [[0.05, 0.07], [], [0.04]]}))
    assert command("import", str(bench), "-o", "real") == 0
    (row,) = Results.open("real").summary.to_dicts()
    assert (row["completed"], row["unfinished"]) == (3, 0)
    assert row["mean_e2el_ms"] == pytest.approx((220 + 200 + 340) / 3)
    assert Results.open("real").requests["max_itl"].to_list() == [0.07, None, 0.04]


GUIDELLM = [
    # request_id, start, prompt, output, seconds, TTFT and mean gap in ms
    ("a", 10.0, 100, 5, 1.2, 200.0, 250.0),
    ("b", 10.5, 50, 1, 0.3, 300.0, 0.0),
]


def guidellm(*rows: tuple[object, ...]) -> str:
    names = (
        *("request_id", "request_start_time", "prompt_tokens", "output_tokens", "request_latency"),
        *("time_to_first_token_ms", "inter_token_latency_ms"),
    )
    requests = [dict(zip(names, row, strict=True)) for row in rows]
    return json.dumps({"benchmarks": [{"requests": {"successful": requests, "errored": [{}]}}]})


def aiperf(name: str, start_ms: int, output: int, **milliseconds: float) -> str:
    about = {
        "x_request_id": name, "request_start_ns": start_ms * 1_000_000,
        "request_end_ns": (start_ms + 1000) * 1_000_000, "benchmark_phase": "profiling",
    }  # fmt: skip
    metrics = {
        "input_sequence_length": {"value": 400, "unit": "tokens"},
        "output_sequence_length": {"value": output, "unit": "tokens"},
        **{metric: {"value": value, "unit": "ms"} for metric, value in milliseconds.items()},
    }
    return json.dumps({"metadata": about, "metrics": metrics, "error": None})


def test_a_guidellm_report(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write_text(guidellm(*GUIDELLM))
    assert command("import", str(bench), "-o", "real") == 0
    said = capsys.readouterr().err
    assert "1 request left out: errored" in said
    assert "only each request's mean is known" in said
    (row,) = Results.open("real").summary.to_dicts()
    assert (row["preset"], row["completed"], row["unfinished"]) == ("guidellm", 2, 0)
    assert row["mean_ttft_ms"] == pytest.approx(250)
    assert row["mean_tpot_ms"] == pytest.approx(250)
    assert row["mean_itl_ms"] == pytest.approx(250, rel=1e-3)  # four gaps; the second answer has none
    assert row["mean_e2el_ms"] == pytest.approx(750)


def test_aiperf_records(bench: Path) -> None:
    lines = [
        aiperf("a", 0, 5, time_to_first_token=100, inter_token_latency=50, request_latency=300),
        aiperf("b", 500, 1, time_to_first_token=200, request_latency=200),
        aiperf("c", 900, 3, time_to_first_token=400),  # its end is in the record itself
    ]
    bench.write_text("\n".join(lines) + "\n")
    assert command("import", str(bench), "-o", "real") == 0
    results = Results.open("real")
    (row,) = results.summary.to_dicts()
    assert (row["preset"], row["completed"]) == ("aiperf", 3)
    assert results.requests["request_id"].to_list() == ["a", "b", "c"]
    assert results.requests["arrival_time"].to_list() == pytest.approx([0.0, 0.5, 0.9])
    assert results.requests["finish_time"].to_list() == pytest.approx([0.3, 0.7, 1.9])


def test_a_run_that_is_not_there(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("import", str(bench), "-o", "real", "--format", "vllm-bench(run=2)") == 2
    assert "has 1 run" in capsys.readouterr().err
    assert not Path("real").exists()


@pytest.mark.parametrize(
    ("file", "tool", "runs", "completed"),
    [
        ("vllm_ok.json", "vllm-bench", 1, 4),
        ("vllm_append.json", "vllm-bench", 2, 8),
        ("guidellm.json", "guidellm", 1, 1),
        ("aiperf.jsonl", "aiperf", 1, 3),
    ],
)
def test_files_that_the_tools_wrote(
    shared_cases: Path, tmp_path: Path, file: str, tool: str, runs: int, completed: int
) -> None:
    path = shared_cases / "09-bench-outputs" / file
    if not path.is_file():
        pytest.skip(f"no {path}")
    out = tmp_path / "real"
    assert command("import", str(path), "-o", str(out)) == 0
    rows = Results.open(out).summary.to_dicts()
    assert [row["preset"] for row in rows] == [tool] * runs
    assert sum(row["completed"] for row in rows) == completed
    assert sum(row["unfinished"] for row in rows) == 0


def test_a_result_without_its_requests_is_refused(
    shared_cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_cases / "09-bench-outputs" / "vllm_nodetail.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    assert command("import", str(path), "-o", str(tmp_path / "real")) == 2
    assert "--save-detailed" in capsys.readouterr().err
