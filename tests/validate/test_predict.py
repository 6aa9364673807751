"""`python -m validate predict`: a replay's cells from its directory alone, at the host speed that was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from simsched.cost_model.host import HostCost
from simsched.cost_model.models import TableCost
from simsched.results import Results
from validate.cli import main

DEVICE = TableCost(knots=(1, 300, 8192), g=(0.0063, 0.0063, 0.17), c=4.6e-8, d=1.9e-9, h=8e-6, per_chunk=8e-4)
HOST = HostCost(
    full=0.0036, piecewise=0.0105, none=0.026, per_sequence=5e-5, per_chunk=2e-4,
    before_first_kernel=(0.0028, 0.92), output_per_sequence=2e-5, tail=0.003, copy=1e-4,
)  # fmt: skip


def call(*words: object) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    content = {
        "version": 1,
        "name": "a card",
        "hardware": {"gpu": "a card"},
        "model": {"name": "a model", "max_model_len": 8192},
        "cost": DEVICE.to_json(),
        "host": HOST.to_json(),
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def replay(h100: Path, tmp_path: Path) -> Path:
    """A replay far from its trace, cut as an archive may be: no cells, no summaries."""
    shutil.copytree(h100 / "fcfs-real-1-0.6x", tmp_path / "elsewhere" / "real")
    (tmp_path / "elsewhere" / "real" / "summary.csv").unlink()
    return tmp_path / "elsewhere" / "real"


def test_a_replay_is_predicted_and_compared(
    replay: Path, h100: Path, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("predict", replay, "--cost-profile", profile, "--trace", h100 / "chat.jsonl")
    errors = {}
    for speed in ("given", "1.0", "1.3"):
        out = tmp_path / speed
        assert call(*words, "--host-speed", speed, "-o", out) == 0
        assert call("compare", replay, out, "--json", tmp_path / "c.json") == 0
        load = json.loads((tmp_path / "c.json").read_text())["loads"][0]
        errors[speed] = load["policies"]["fcfs"]["metrics"]["mean_latency_per_token_ms"]["relative_error"]
    said = capsys.readouterr().err
    assert "0-fcfs-37.2-run0: host speed 0." in said
    assert "0-fcfs-37.2-run0: host speed 1.3" in said
    assert abs(errors["given"]) < 0.05
    assert errors["given"] < errors["1.0"] < errors["1.3"]
    manifest = json.loads((tmp_path / "given" / "manifest.json").read_text())
    assert manifest["host_speed"]["asked"] == "given"
    assert 0.6 < manifest["host_speed"]["cells"]["0-fcfs-37.2-run0"] < 1.0
    assert manifest["study"]["vllm_version"] == ["0.25.1"]
    simulated = Results.open(tmp_path / "given")
    assert len(list(simulated.steps("0-fcfs-37.2-run0"))) > 1000


def test_a_directory_that_was_cut_down_and_a_trace_under_another_name(
    h100: Path, profile: Path, tmp_path: Path
) -> None:
    """Cells keep their names, though the study now has fewer policies before them."""
    real = tmp_path / "cut"
    shutil.copytree(h100 / "real-1-0.9x", real, ignore=shutil.ignore_patterns("cells", "summary*"))
    manifest, facts = (json.loads((real / f"{name}.json").read_text()) for name in ("manifest", "replay"))
    kept = "4-mlfq-56.6-run0"
    manifest["cells"] = {kept: manifest["cells"][kept]}
    manifest["study"]["policy"] = ["mlfq"]
    facts["cells"] = {kept: facts["cells"][kept]}
    (real / "manifest.json").write_text(json.dumps(manifest))
    (real / "replay.json").write_text(json.dumps(facts))
    table = pl.read_parquet(real / "requests.parquet")
    table.filter(pl.col("policy") == "mlfq").write_parquet(real / "requests.parquet")
    trace = tmp_path / "another-name.jsonl"
    shutil.copy(h100 / "chat.jsonl", trace)
    words = ("predict", real, "--cost-profile", profile, "--trace", trace, "-o", tmp_path / "sim")
    assert call(*words) == 0
    assert call("compare", real, tmp_path / "sim", "--json", tmp_path / "c.json") == 0
    load = json.loads((tmp_path / "c.json").read_text())["loads"][0]
    assert (load["workload"], list(load["policies"])) == ("chat", ["mlfq"])
    assert list(Results.open(tmp_path / "sim").cells) == [kept]


def test_no_latency_is_used_for_the_host_speed(
    replay: Path, h100: Path, profile: Path, tmp_path: Path
) -> None:
    words = (
        "predict", replay, "--cost-profile", profile, "--trace", h100 / "chat.jsonl", "--host-speed", "given"
    )  # fmt: skip
    assert call(*words, "-o", tmp_path / "one") == 0
    table = pl.read_parquet(replay / "requests.parquet")
    late = [pl.col(name) * 3 for name in ("first_scheduled_time", "first_token_time", "finish_time")]
    table.with_columns(late).write_parquet(replay / "requests.parquet")
    assert call(*words, "-o", tmp_path / "two") == 0
    one, two = (
        json.loads((tmp_path / name / "manifest.json").read_text())["host_speed"] for name in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trace", "calibration.jsonl"), "calibration.jsonl: not a trace that"),
        ((), "traces/chat.jsonl"),
        (("--trace", "chat.jsonl", "--cost-profile", "bare.json", "--host-speed", "given"), "has no host"),
        (("--trace", "chat.jsonl", "--host-speed", "fast"), "expected given, or a number"),
        (("--trace", "chat.jsonl", "--host-speed", "-1"), "expected given, or a number"),
    ],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...],
    message: str,
    replay: Path,
    h100: Path,
    profile: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(DEVICE.to_json()))
    paths = {
        "calibration.jsonl": h100 / "calibration.jsonl",
        "chat.jsonl": h100 / "chat.jsonl",
        "bare.json": bare,
    }
    given = [paths.get(word, word) for word in words]
    code = call("predict", replay, "--cost-profile", profile, *given, "-o", tmp_path / "out")
    assert code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_other_requests_are_refused(
    replay: Path, h100: Path, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pl.read_parquet(replay / "requests.parquet")
    table.with_columns(pl.col("num_output_tokens") + 1).write_parquet(replay / "requests.parquet")
    words = ("predict", replay, "--cost-profile", profile, "--trace", h100 / "chat.jsonl")
    assert call(*words, "-o", tmp_path / "out") == 2
    assert "num_output_tokens differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
