"""A real engine on the CPU, end to end: replays offline and over HTTP, and their errors in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.vllm
ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    "block-size": 32,
    "num-gpu-blocks": 24,
    "max-num-seqs": 4,
    "max-num-batched-tokens": 128,
    "max-model-len": 256,
}
ENGINE = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]


def trace(folder: Path, count: int = 12) -> Path:
    """Requests that come faster than they are served, so that policies have a choice."""
    path = folder / "small.jsonl"
    rows = [
        {"timestamp": 0.03 * i, "input_length": 20 + 13 * i % 70, "output_length": 6 + 17 * i % 40}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def validate(*arguments: str | Path, limit: float = 400) -> subprocess.CompletedProcess[str]:
    """`python -m validate ...` in a process of its own: an engine can be started once a process."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "validate", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=limit, stdin=subprocess.DEVNULL,
        env={**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "0"},
    )  # fmt: skip


def test_a_replay_decides_as_the_simulator(vllm_version: str, tmp_path: Path) -> None:
    """Every policy kind on the real engine: the same decisions, given its clock; and it compares."""
    policies = "fcfs,srtf,mlfq(base_quantum=0.02),priority"
    common = ["--trace", trace(tmp_path), "--policy", policies, *ENGINE]
    done = validate("replay", *common, "-o", tmp_path / "real")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "real" / "replay.json").read_text())
    assert facts["vllm_version"] == vllm_version
    assert len(facts["cells"]) == 4
    for cell in facts["cells"].values():
        assert cell["decisions"]["first_difference"] is None
        assert cell["decisions"]["steps"] > 20
        assert cell["num_gpu_blocks"] == 24
    simulate = [sys.executable, "-m", "simsched", "run", *map(str, common), "--log-steps", "--no-plot"]
    done = subprocess.run([*simulate, "-o", str(tmp_path / "sim")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = validate("compare", tmp_path / "real", tmp_path / "sim", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["speedup_error"]) == {"fcfs", "srtf", "mlfq(base_quantum=0.02)", "priority"}


def session_trace(folder: Path) -> Path:
    """Six conversations that begin with the same block, of three turns each; the third waits for two."""
    rows: list[dict[str, object]] = []
    for name in "abcdef":
        start = {"timestamp": 0.05 * len(rows), "input_length": 50 + 7 * len(rows) % 30, "output_length": 9}
        shares = {"parent": "a0", "history_length": 32} if rows else {}
        rows += [
            {"request_id": f"{name}0", "session_id": name, **start, **shares},
            {"request_id": f"{name}1", "session_id": name, "think_time": 0.05, "input_length": 110,
             "output_length": 20},
            {"request_id": f"{name}2", "session_id": name, "parent": [f"{name}1", f"{name}0"],
             "think_time": 0.02, "input_length": 180, "output_length": 12},
        ]  # fmt: skip
    path = folder / "turns.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("arrivals", [None, "users(3)"])
def test_turns_are_sent_when_their_answers_have_come(
    vllm_version: str, tmp_path: Path, arrivals: str | None
) -> None:
    """The prompts go on from what the model really said, and hit what the simulator says they hit."""
    more = [] if arrivals is None else ["--arrivals", arrivals]
    done = validate(
        "replay", "--trace", session_trace(tmp_path), "--policy", "fcfs,srtf", *ENGINE, *more,
        "-o", tmp_path / "real",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for cell in json.loads((tmp_path / "real" / "replay.json").read_text())["cells"].values():
        assert cell["decisions"]["first_difference"] is None
        assert cell["decisions"]["steps"] > 40
    requests = pl.read_parquet(tmp_path / "real" / "requests.parquet").filter(pl.col("policy") == "fcfs")
    times = {row["request_id"]: row for row in requests.to_dicts()}
    for name in "abcdef":
        assert times[f"{name}1"]["arrival_time"] == pytest.approx(times[f"{name}0"]["finish_time"] + 0.05)
        assert times[f"{name}2"]["arrival_time"] == pytest.approx(times[f"{name}1"]["finish_time"] + 0.02)
    first_step = {
        name: step["scheduled"][name]
        for line in reversed((next((tmp_path / "real" / "steps").iterdir())).read_text().splitlines())
        for step in [json.loads(line)]
        for name in step["scheduled"]
    }
    # of 110 tokens 59 to 88 were there before: a full block of 32 or two need not be computed again
    assert sum(first_step[f"{name}1"] <= 110 - 32 for name in "abcdef") >= 4


def test_a_replay_over_http(vllm_version: str, tmp_path: Path) -> None:
    done = validate(
        "replay", "--engine", "http", "--trace", trace(tmp_path, 6), "--policy", "srtf", *ENGINE,
        "-o", tmp_path / "real",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads((tmp_path / "real" / "replay.json").read_text())["cells"].values()
    assert cell["decisions"]["first_difference"] is None
    assert cell["num_gpu_blocks"] == 24


def test_sessions_over_two_servers_behind_a_router(vllm_version: str, tmp_path: Path) -> None:
    done = validate(
        "replay", "--engine", "http", "--trace", session_trace(tmp_path), "--policy", "fcfs", *ENGINE,
        "--num-replicas", "2", "--router", "session", "-o", tmp_path / "real",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads((tmp_path / "real" / "replay.json").read_text())["cells"].values()
    assert cell["decisions"]["first_difference"] is None
    requests = pl.read_parquet(tmp_path / "real" / "requests.parquet")
    assert requests["replica"].unique().sort().to_list() == [0, 1]
    assert requests.group_by("session_id").agg(pl.col("replica").n_unique())["replica"].max() == 1
    assert (requests["num_cached_tokens"] % 32 == 0).all()
    assert requests["num_cached_tokens"].max() > 0


def test_a_server_that_refuses_is_one_line(vllm_version: str, tmp_path: Path) -> None:
    """A context that the KV blocks can't hold: vLLM says so, and dies."""
    engine = ["--block-size", "32", "--num-gpu-blocks", "4", "--max-model-len", "4096"]
    rows = {"timestamp": 0, "input_length": 8, "output_length": 2}
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(rows) + "\n")
    for kind in ("http", "offline"):
        done = validate("replay", "--engine", kind, "--trace", path, "--policy", "fcfs", *engine,
                        "-o", tmp_path / kind)  # fmt: skip
        assert done.returncode == 2
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("validate: ")]
        assert "vllm serve died" in line or "vLLM" in line
        assert not (tmp_path / kind).exists()
