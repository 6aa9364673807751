"""`simsched run` and `simsched list` from the outside: contracts, messages, bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from simsched.cli import main
from simsched.cli.run import _window_text
from tests.engine.scenarios import STEP_KEYS
from tests.sweep.test_sweep import COST, write_jsonl

CONTRACT = [
    "--preset", "vllm-v1", "--max-num-seqs", "16", "--max-num-batched-tokens", "512", "--block-size", "16",
    "--num-gpu-blocks", "400", "--max-model-len", "2048", "--enable-prefix-caching",
    "--long-prefill-token-threshold", "0", "--log-steps",
]  # fmt: skip


def simsched(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simsched", *words],
        capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, timeout=120,
    )  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that the command prints when it refuses; nothing on stdout."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    output = capsys.readouterr()
    assert caught.value.code == 2, output.err
    assert output.out == ""
    return output.err


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with T.jsonl and COST.json, which is also the working directory."""
    (tmp_path / "COST.json").write_text(json.dumps(COST))
    rows = [
        {"timestamp": 0.02 * i, "input_length": 50 + i, "output_length": 20 + i % 7, "request_id": f"q{i}"}
        for i in range(60)
    ]
    write_jsonl(tmp_path / "T.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contract_run(*extra: str) -> list[str]:
    return ["run", "--trace", "T.jsonl", "--cost-profile", "COST.json", *CONTRACT, "-o", "out", *extra]


def test_the_contract(files: Path) -> None:
    done = simsched(*contract_run("--policy", "fcfs"), cwd=files)
    assert done.returncode == 0, done.stderr
    (log,) = (files / "out" / "steps").glob("*.jsonl")
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert set(steps[0]) == STEP_KEYS
    assert steps[0]["scheduled"] == {"q0": 50}
    assert steps[0]["step_time"] == pytest.approx(0.01 + 5e-5 * 50 + 3e-9 * 50 * 25)
    requests = pl.read_parquet(files / "out" / "requests.parquet")
    assert requests["finish_time"].is_not_null().all()
    assert {"manifest.json", "summary.csv", "summary.json"} <= {
        path.name for path in (files / "out").iterdir()
    }
    (cell,) = json.loads((files / "out" / "manifest.json").read_text())["cells"]
    assert log.name == f"{cell}.jsonl"


@pytest.mark.parametrize(
    "policy",
    [
        "fcfs", "ranking", "ranking(starvation_threshold=50,starvation_period=10)", "classification", "srtf",
        "po", "mlfq(base_quantum=0.03,threshold=2)",
    ],
)  # fmt: skip
def test_the_contract_in_the_forks_preset(files: Path, policy: str) -> None:
    words = contract_run("--policy", policy, "--preset", "vllm-0.4.1-ltr", "--no-enable-prefix-caching")
    done = simsched(*words, cwd=files)
    assert done.returncode == 0, done.stderr
    (log,) = (files / "out" / "steps").glob("*.jsonl")
    first = json.loads(log.read_text().splitlines()[0])
    assert {"swapped_out", "swapped_in"} <= set(first)
    if policy not in ("fcfs", "srtf", "mlfq(base_quantum=0.03,threshold=2)"):
        assert "emulated predictor" in done.stderr  # the trace has no predictions


def test_bare_run(tmp_path: Path) -> None:
    """Works offline with nothing given, and says who wins; a second time it says what to do."""
    done = simsched("run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "simsched-results"
    assert (out / "figures" / "latency.png").stat().st_size > 10_000
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["cells"]) == 5 * 6 * 3
    assert "capacity about" in done.stderr
    *_, last = done.stdout.splitlines()
    assert "is best" in last
    assert re.search(r"ranking is best, [\d.]+ times lower \[[\d., ]+\] than fcfs", done.stdout)
    again = simsched("run", cwd=tmp_path)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert "--overwrite" in again.stderr


def test_dry_run_writes_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_ok("run", "--policy", "fcfs,ranking", "--request-rate", "4,0.5x", "--dry-run")
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("4 cells, about")
    assert not (files / "simsched-results").exists()


def main_ok(*words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 0


BAD_OPTIONS: list[tuple[list[str], str]] = [
    (["--policy", "nope"], "nope"),
    (["--policy", "mlfq(base_quantum=x)"], "base_quantum"),
    (["--policy", "./nope.py:Mine"], "nope.py"),
    (["--workload", "nope"], "expected one of sharegpt"),
    (["--preset", "nope"], "expected one of vllm-v1"),
    (["--cost-profile", "nope"], "no such profile or file"),
    (["--predictor", "nope", "--policy", "ranking"], "--predictor"),
    (["--arrivals", "sometimes"], "--arrivals sometimes: unknown"),
    (["--arrivals", "burst", "--request-rate", "4"], "have no rate"),
    (["--request-rate", "0"], "--request-rate 0"),
    (["--max-num-seqs", "0"], "--max-num-seqs 0"),
    (["--num-swap-blocks", "5"], "preset vllm-v1 has no such option"),
    (["--max-model-len", "100000"], "--max-model-len 100000"),
    (["--max-model-len", "64"], "64"),
    (["--num-gpu-blocks", "5"], "5"),
    (["--goodput", "speed:1"], "--goodput speed:1"),
    (["--tau", "1.5"], "--tau 1.5"),
    (["--num-requests", "none"], "--num-requests none"),
    (["--dask-scheduler", "tcp://x:1"], "only with --executor dask"),
    (["--resume", "--overwrite"], "exclude each other"),
    (["nope.yaml"], "nope.yaml: cannot read the study"),
]


@pytest.mark.parametrize(("words", "message"), BAD_OPTIONS, ids=[" ".join(words) for words, _ in BAD_OPTIONS])
def test_bad_options(files: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    before = sorted(files.iterdir())
    error = refused(capsys, "run", *words, "-o", "out")
    assert message in error
    assert len(error.splitlines()) == 1
    assert sorted(files.iterdir()) == before


GOOD = '{"timestamp": 0, "input_length": 3, "output_length": 4}\n'
BAD_TRACES: dict[str, bytes] = {
    "empty": b"",
    "truncated": GOOD.encode() + b'{"timestamp": 1, "inp',
    "binary": b"\x00\x01\x02\xff" * 50,
    "missing": b'{"timestamp": 0, "input_length": 3}\n',
    "wrong type": b'{"timestamp": 0, "input_length": "three", "output_length": 4}\n',
    "negative": b'{"timestamp": 0, "input_length": -3, "output_length": 4}\n',
    "zero": b'{"timestamp": 0, "input_length": 3, "output_length": 0}\n',
    "NaN": b'{"timestamp": NaN, "input_length": 3, "output_length": 4}\n',
    "unsorted": b'{"timestamp": 5, "input_length": 3, "output_length": 4}\n' + GOOD.encode(),
    "duplicate": 2 * b'{"timestamp": 0, "input_length": 3, "output_length": 4, "request_id": "a"}\n',
    "over-long": b'{"timestamp": 0, "input_length": 3000, "output_length": 4}\n',
    "never fits": b'{"timestamp": 0, "input_length": 100, "output_length": 1900}\n',
    "bad score": b'{"timestamp": 0, "input_length": 3, "output_length": 4, "score": "low"}\n',
}


@pytest.mark.parametrize("kind", BAD_TRACES)
def test_bad_traces(files: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    (files / "T.jsonl").write_bytes(BAD_TRACES[kind])
    extra = ["--num-gpu-blocks", "40"] if kind == "never fits" else []
    error = refused(capsys, *contract_run("--policy", "fcfs", *extra))
    assert "T" in error
    assert len(error.splitlines()) == 1
    assert not (files / "out").exists()


def test_missing_trace(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nope.jsonl" in refused(capsys, "run", "--trace", "nope.jsonl", "-o", "out")


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"form": "linear"}', '{"form": "cubic", "unit": "s"}', json.dumps({**COST, "t0": -1})],
)
def test_bad_cost_files(files: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    (files / "COST.json").write_text(content)
    error = refused(capsys, *contract_run("--policy", "fcfs"))
    assert "COST.json" in error
    assert len(error.splitlines()) == 1
    assert not (files / "out").exists()


def test_a_bare_cost_file_needs_blocks(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "run", "--trace", "T.jsonl", "--cost-profile", "COST.json", "-o", "out")
    assert "--num-gpu-blocks: COST.json does not say" in error


@pytest.mark.parametrize("flag", ["--skip-invalid", "--truncate"])
def test_long_requests_dropped_or_cut_and_counted(files: Path, flag: str) -> None:
    rows: list[dict[str, Any]] = [
        {"timestamp": 0, "input_length": 5000, "output_length": 4},
        {"timestamp": 0, "input_length": 5, "output_length": 4},
    ]
    write_jsonl(files / "T.jsonl", rows)
    done = simsched(*contract_run("--policy", "fcfs", flag), cwd=files)
    assert done.returncode == 0, done.stderr
    assert "T: 1 " in done.stderr
    requests = pl.read_parquet(files / "out" / "requests.parquet")
    assert requests.height == (1 if flag == "--skip-invalid" else 2)
    assert requests["finish_time"].is_not_null().all()


def test_the_format_of_a_trace(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"input_length": 600, "output_length": 20}
    rows = [{"timestamp": 2000 * i, **same, "hash_ids": [0, i]} for i in range(5)]
    write_jsonl(files / "T.jsonl", rows)
    (files / "study.yaml").write_text("trace: T.jsonl\npolicy: fcfs\nformat: jsonl\n")
    for words, seconds in (("--trace", "T.jsonl"), 8.0), (("study.yaml",), 8000.0):
        main_ok("run", *words, "--policy", "fcfs", "--no-plot", "-o", f"out{seconds}")
        taken_for_mooncake = "T.jsonl: read as mooncake: timestamp in milliseconds" in capsys.readouterr().err
        assert taken_for_mooncake == (seconds == 8.0)
        requests = pl.read_parquet(files / f"out{seconds}" / "requests.parquet")
        assert requests["arrival_time"].max() == pytest.approx(seconds)
    # another source has nothing of the file's
    main_ok("run", "study.yaml", "--workload", "sharegpt", "--request-rate", "4", "--dry-run")
    capsys.readouterr()
    error = refused(capsys, "run", "--trace", "T.jsonl", "--format", "csv")
    assert "--format csv: expected one of jsonl, table" in error


def test_study_file_and_flags_on_top(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMSCHED_DATA", raising=False)
    (files / "study.yaml").write_text(
        "title: t\ntrace: $SIMSCHED_DATA/T.jsonl\npolicy: [fcfs, sjf]\n"
        "cost_profile: $SIMSCHED_DATA/COST.json\nnum_gpu_blocks: 400\nmax_model_len: 2048\n"
    )
    assert "give its folder with --data" in refused(capsys, "run", "study.yaml", "-o", "out")
    monkeypatch.setenv("SIMSCHED_DATA", "elsewhere")  # --data wins, and is forgotten after the test
    done = simsched("run", "study.yaml", "--data", ".", "--policy", "sjf,ljf", "-o", "out", cwd=files)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((files / "out" / "manifest.json").read_text())
    assert manifest["study"]["policy"] == ["sjf", "ljf"]
    assert manifest["study"]["trace"] == ["$SIMSCHED_DATA/T.jsonl"]
    flags = ["--workload", "sharegpt", "--request-rate", "4", "--num-requests", "3", "--dry-run"]
    main_ok("run", "study.yaml", "--data", ".", *flags)  # replaces the file's trace
    assert capsys.readouterr().out.splitlines()[-1] == "2 cells, about 6 requests"


def test_user_policy_from_a_file(files: Path) -> None:
    (files / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from simsched.policies.base import Policy\n\n"
        "@dataclass\nclass Mine(Policy):\n"
        "    def priority(self, request, now):\n        return -request.num_prompt_tokens\n"
    )
    done = simsched(*contract_run("--policy", "fcfs,./mine.py:Mine", "--jobs", "2"), cwd=files)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((files / "out" / "manifest.json").read_text())
    assert "./mine.py" in manifest["sha256"]


@pytest.mark.parametrize("kind", ["policies", "workloads", "profiles", "presets", "predictors"])
def test_list(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    main_ok("list", kind)
    out = capsys.readouterr().out
    expected = {
        "policies": "ranking", "workloads": "sharegpt", "profiles": "a100-80gb/llama-3-8b",
        "presets": "vllm-0.4.1-ltr", "predictors": "emulated",
    }  # fmt: skip
    assert expected[kind] in out
    assert "\x1b" not in out


def test_what_a_run_prints(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rates ascend as they are, goodput has its columns, and what is behind the numbers is said."""
    main_ok(
        "run", "--policy", "sjf,fcfs", "--request-rate", "40,8,0.9x", "--duration", "20", "--no-plot",
        "--goodput", "ttft:500,tpot:50", "--max-num-seqs", "8", "-o", "out",
    )  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    headers = lines[1].split()
    rows = [line.split() for line in lines[2:8]]
    capacity = next(iter(json.loads((files / "out" / "manifest.json").read_text())["capacity"].values()))
    assert [row[0] for row in rows] == ["sjf"] * 3 + ["fcfs"] * 3
    assert [float(row[1]) for row in rows[:3]] == sorted([8, 40, float(f"{0.9 * capacity:.4g}")])
    assert {"good/s", "good"} <= set(headers)
    assert 0 < float(rows[0][-2]) <= 100
    text = "\n".join(lines)
    assert "served/s: requests over" in text
    assert "Not steady at 40 req/s: so many more requests wait every second: " in text
    assert "(20 s of arrivals)" in text
    assert "  Goodput: " in text


def test_a_dry_run_counts_cells(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_ok("run", "--policy", "fcfs", "--request-rate", "4", "--dry-run")
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 cell, about")


def test_a_run_says_at_its_start_how_much_it_simulates(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main_ok(
        "run", "--policy", "fcfs,sjf", "--request-rate", "4", "--num-requests", "20", "-o", "out", "--no-plot"
    )
    assert "2 cells, about 40 requests" in capsys.readouterr().err.splitlines()


def test_a_trace_of_one_token_answers_is_a_success(files: Path) -> None:
    rows = [
        {"timestamp": 0.1 * i, "input_length": 9, "output_length": 1, "request_id": str(i)} for i in range(5)
    ]
    write_jsonl(files / "one.jsonl", rows)
    main_ok("run", "--trace", "one.jsonl", "--policy", "fcfs", "-o", "out")
    assert (files / "out" / "figures" / "cdf.png").is_file()


def test_a_figure_is_the_same_beside_its_study(files: Path) -> None:
    (files / "s.yaml").write_text("request_rate: 16\nnum_requests: 60\nfigures:\n- kind: decile\n")
    main_ok("run", "s.yaml", "--policy", "fcfs,ranking", "-o", "out")
    assert (files / "s.png").read_bytes() == (files / "out" / "figures" / "decile.png").read_bytes()


@pytest.mark.parametrize(
    ("sessions", "starts", "said"),
    [(None, [0.0, 10.0], ""), (["a", "b"], [0.0, 10.0], "sessions start in 10% of that time"),
     (["a", "b"], [0.0, 95.0], "")],
)  # fmt: skip
def test_served_per_second_of_sessions_is_explained(
    sessions: list[str] | None, starts: list[float], said: str
) -> None:
    """The last session's turns and think times are part of a whole run; how much of it is said."""
    rows = {
        "policy": ["fcfs"] * 4,
        "arrival_time": [*starts, 50.0, 98.0],
        "finish_time": [2.0, 12.0, 52.0, 100.0],
    }
    requests = pl.DataFrame({**rows, **({"session_id": sessions * 2} if sessions else {})})
    results: Any = SimpleNamespace(
        manifest={},
        summary=pl.DataFrame({"steady": [False]}),
        requests=requests,
        cells={"0": {"policy": "fcfs"}},
    )
    text = _window_text(results)[0]
    assert said in text
    assert ("sessions start" in text) == bool(said)
