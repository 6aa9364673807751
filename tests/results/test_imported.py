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


def test_a_value_that_cannot_be_is_named(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write_text(json.dumps({**BENCH, "ttfts": [0.1, -2, 0.3]}))
    assert command("import", str(bench), "-o", "real") == 2
    error = capsys.readouterr().err
    assert "ttft -2" in error
    assert error.count("\n") == 1
    assert not Path("real").exists()
