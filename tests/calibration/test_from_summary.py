"""`simsched calibrate --from-summary`: profiles from means alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simsched.cli import main
from simsched.cost_model.models import LinearCost
from simsched.cost_model.profile import load_profile

TRUE = {"form": "linear", "unit": "s", "t0": 0.02, "a": 1.5e-4, "b": 2e-4, "c": 1e-7, "d": 0.0}
ENGINE = ("--max-num-seqs", "64", "--max-num-batched-tokens", "4096")
MEMORY = ("--num-gpu-blocks", "9740", "--max-model-len", "8192")
LOAD = ("--workload", "sharegpt", "--duration", "80", "--arrivals", "poisson(exact=true)")
COLUMNS = ("policy", "request_rate", "mean_ttft_ms", "mean_tpot_ms", "mean_latency_per_token_ms")


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def terms(path: Path) -> dict[str, float]:
    cost = load_profile(path).cost
    assert isinstance(cost, LinearCost)
    return {name: getattr(cost, name) for name in ("t0", "a", "b", "c")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a server whose cost is known, under two policies at three rates."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "true.json").write_text(json.dumps(TRUE))
    code = command(
        "run", "--policy", "fcfs,sjf", "--request-rate", "0.5,2,3", *LOAD, *ENGINE, *MEMORY,
        "--cost-profile", folder / "true.json", "-o", folder / "out", "--no-plot", "--seed", "7",
    )  # fmt: skip
    assert code == 0
    return folder


def table(runs: Path, path: Path, rates: tuple[float, ...] = (0.5, 2, 3), **changed: Any) -> Path:
    """A user's own CSV of it."""
    import polars as pl

    frame = pl.read_csv(runs / "out" / "summary.csv").select(COLUMNS)
    frame = frame.filter(pl.col("request_rate").is_in(rates)).with_columns(
        *(pl.lit(value).alias(name) for name, value in changed.items())
    )
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def fitted(runs: Path) -> Path:
    """The profile of such a table."""
    path = table(runs, runs / "mine.csv")
    words = ("--from-summary", path, *LOAD, *ENGINE, *MEMORY)
    assert command("calibrate", *words, "-o", runs / "fitted.json") == 0
    return runs / "fitted.json"


def test_known_terms_come_out_of_a_table(fitted: Path) -> None:
    out, found = fitted, terms(fitted)
    assert found["t0"] == pytest.approx(TRUE["t0"], rel=0.1)
    assert found["a"] == pytest.approx(TRUE["a"], rel=0.5)
    # what is not known of a token of context is in that of a sequence
    assert found["c"] == 0
    context = 450 * 1e-7
    assert found["b"] == pytest.approx(TRUE["b"] + context, rel=0.4)
    provenance = load_profile(out).file.provenance  # type: ignore[union-attr]
    assert provenance.measured == (
        f"{', '.join(COLUMNS[2:])} of fcfs at 0.5, 2, 3 requests/s, as given in mine.csv, unchecked",
    )
    assert "author" not in out.read_text()
    assert "--max-num-seqs 64" in provenance.command
    # no row without a word
    assert any("left out: 3 runs of sjf (line 3, line 5, line 7)" in each for each in provenance.assumed)


def test_a_results_directory_has_its_own_requests(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "p.json"
    words = ("calibrate", "--from-summary", runs / "out", *ENGINE, *MEMORY, "--policy", "fcfs,sjf", "-o", out)
    assert command(*words) == 0
    assert terms(out)["t0"] == pytest.approx(TRUE["t0"], rel=0.05)
    assert terms(out)["a"] == pytest.approx(TRUE["a"], rel=0.3)
    file = load_profile(out).file
    assert file is not None
    assert file.provenance.measured == ()  # it was simulated
    assert "of a simulation by simsched" in file.provenance.derived[0]
    assert "share no prefix" in capsys.readouterr().err
    assert command(*words, "--overwrite", "--workload", "lmsys") == 2
    assert "has its own requests" in capsys.readouterr().err


def test_an_imported_benchmark_is_fitted_and_compared(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import polars as pl

    served = pl.read_parquet(runs / "out" / "requests.parquet")
    served = served.filter((pl.col("policy") == "fcfs") & (pl.col("request_rate") == 2))
    outputs = served["num_output_tokens"].to_list()
    decoding = (served["finish_time"] - served["first_token_time"]).to_list()
    bench = {
        "input_lens": served["num_prompt_tokens"].to_list(),
        "output_lens": outputs,
        "start_times": served["arrival_time"].to_list(),
        "ttfts": (served["first_token_time"] - served["arrival_time"]).to_list(),
        "itls": [[time / (n - 1)] * (n - 1) for time, n in zip(decoding, outputs, strict=True)],
        "errors": [""] * len(outputs),
        "request_throughput": 2.0,
        "total_input_tokens": 1,
    }
    file, real, profile = tmp_path / "bench.json", tmp_path / "real", tmp_path / "p.json"
    file.write_text(json.dumps(bench))
    assert command("import", file, "-o", real) == 0
    words = ("calibrate", "--from-summary", real, *ENGINE, *MEMORY, "-o", profile)
    assert command(*words) == 2  # one rate does not tell all
    assert "don't tell" in capsys.readouterr().err
    assert command(*words, "--cost-profile", runs / "true.json") == 0
    made = load_profile(profile).file
    assert made is not None
    assert "measured by vllm-bench: bench.json" in made.provenance.measured[0]
    assert terms(profile)["t0"] == pytest.approx(TRUE["t0"], rel=0.1)
    engine = (*ENGINE, *MEMORY, "--cost-profile", profile)
    assert (
        command("run", "--policy", "fcfs", "--trace", file, *engine, "-o", tmp_path / "sim", "--no-plot") == 0
    )
    capsys.readouterr()
    assert command("compare", real, tmp_path / "sim") == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("Mean end-to-end latency"))
    _, measured, simulated, *_ = lines[at + 2].replace(",", "").split()
    assert float(simulated) == pytest.approx(float(measured), rel=0.03)


def test_the_server_may_be_a_study(
    runs: Path, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "server.yaml"
    study.write_text(
        "workload: sharegpt\nduration: 80\narrivals: poisson(exact=true)\n"
        "max_num_seqs: 64\nmax_num_batched_tokens: 4096\n"
        "num_gpu_blocks: 9740\nmax_model_len: 8192\nrequest_rate: [1, 2]\n"
    )
    out = tmp_path / "p.json"
    assert command("calibrate", "--from-summary", runs / "mine.csv", "--study", study, "-o", out) == 0
    assert terms(out) == terms(fitted)
    assert "of the study, not used: request_rate" in capsys.readouterr().err


def test_what_the_means_do_not_tell_is_refused_or_taken_from_a_profile(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = table(runs, tmp_path / "one.csv", rates=(0.5,)), tmp_path / "p.json"
    words = ("calibrate", "--from-summary", path, *LOAD, *ENGINE, *MEMORY, "-o", out)
    assert command(*words) == 2
    error = capsys.readouterr().err
    assert "don't tell" in error
    assert "a sequence (b)" in error
    assert error.count("\n") == 1
    assert not out.exists()
    assert command(*words, "--cost-profile", runs / "true.json") == 0
    assert terms(out)["b"] == TRUE["b"]
    assert terms(out)["t0"] == pytest.approx(TRUE["t0"], rel=0.1)
    assert any("a sequence (b) as in" in each for each in load_profile(out).file.warnings)  # type: ignore[union-attr]


def test_means_of_another_engine_are_warned_of(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(runs, tmp_path / "odd.csv", mean_tpot_ms=400.0)
    code = command("calibrate", "--from-summary", path, *LOAD, *ENGINE, *MEMORY, "-o", tmp_path / "p.json")
    error = capsys.readouterr().err
    assert code == 2 or "the means are not met" in error


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("a,b\n1,2\n", (), "expected a column request_rate"),
        ("request_rate,mean_ttft_ms\n1,x\n", (), ":2: mean_ttft_ms 'x': expected a number above 0"),
        ("request_rate,mean_ttft_ms\n0,5\n", (), ":2: request_rate '0': expected a number above 0"),
        ("request_rate,mean_ttft_ms\n1,\n", (), ":2: no latency"),
        ("request_rate,mean_ttft_ms,window_start\n1,5,30\n", (), "are of a window"),
        ("policy,request_rate,mean_ttft_ms\nsjf,1,5\n", (), "no run of fcfs, only of sjf"),
        ("request_rate,mean_ttft_ms\n1,5\n", ("--max-num-seqs", "8,16"), "expected one value"),
        ("request_rate,mean_ttft_ms\n1,5\n", ("--arrivals", "burst"), "has no rate"),
        ("request_rate,mean_ttft_ms\n1,5\n", ("--cost-profile", "h100-80gb/llama-3-8b"), "has host times"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    words: tuple[str, ...],
    message: str,
) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    out = tmp_path / "p.json"
    assert command("calibrate", "--from-summary", path, *MEMORY, *words, "-o", out) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_without_memory_and_without_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s.csv").write_text("request_rate,mean_ttft_ms\n1,5\n")
    assert command("calibrate", "--from-summary", tmp_path / "s.csv") == 2
    assert "--gpu and --model, or else --num-gpu-blocks and --max-model-len" in capsys.readouterr().err
    assert command("calibrate", "--from-steps", tmp_path, "--max-num-seqs", "8") == 2
    assert "--max-num-seqs: only with --from-summary" in capsys.readouterr().err
