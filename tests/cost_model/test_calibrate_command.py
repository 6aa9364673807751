"""`simsched calibrate` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsched.cli import main
from simsched.cost_model.base import StepFeatures
from simsched.cost_model.profile import load_profile
from tests.cost_model.test_step_log import LINEAR, simulated_log


def call(*words: object) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", *(str(word) for word in words)])
    return int(caught.value.code or 0)


def test_from_steps_writes_a_profile_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated_log(tmp_path / "run", LINEAR, noise=0.01)
    output = tmp_path / "mine.json"
    code = call(
        "--from-steps", tmp_path / "run", "--form", "linear", "--gpu", "my-card", "--gpu-memory", 40,
        "--model", "llama-3-8b", "-o", output,
    )  # fmt: skip
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out == ""
    assert "my-card/llama-3-8b: linear, fitted to" in said.err
    profile = load_profile(output)
    assert profile.file is not None
    assert profile.file.provenance.measured[0].startswith("step_time and batch of")
    assert str(tmp_path) not in output.read_text()
    assert profile.predictor_time == 0.0  # nothing that was not measured
    assert profile.num_gpu_blocks(16) is not None
    features = StepFeatures(P=300, N=10, S=1, K=5000, Q=45_000.0)
    assert profile.cost.step_time(features) == pytest.approx(LINEAR.step_time(features), rel=0.02)
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_without_an_output_the_profile_goes_to_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated_log(tmp_path, LINEAR)
    assert call("--from-steps", tmp_path, "--form", "linear") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["cost"]["form"] == "linear"
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--gpu", "a100-80gb"), "p: knows no memory without both --gpu and --model; give --num-gpu-blocks"),
        (("--gpu", "a100-80gb", "--model", "llama-3-70b"), "warning: profile a100-80gb/llama-3-70b: no room"),
        (("--gpu", "a100-80gb", "--model", "llama-3-8b"), ""),
    ],
)
def test_what_a_profile_knows_of_memory_is_said(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulated_log(tmp_path / "run", LINEAR)
    assert call("--from-steps", tmp_path / "run", *words, "-o", tmp_path / "p.json", "--no-plot") == 0
    shown = capsys.readouterr().err
    assert said in shown
    assert ("memory" in shown or "no room" in shown) is bool(said)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    simulated_log(tmp_path / "run", LINEAR, noise=0.01)
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert call("--from-steps", tmp_path / "run", "-o", tmp_path / name / "p.json") == 0
        made.append([(tmp_path / name / f"p.{kind}").read_bytes() for kind in ("json", "png")])
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give one of --from-kernels"),
        (("--from-steps", "a", "--from-kernels", "b"), "give one of"),
        (("--from-steps", "nowhere"), "--from-steps nowhere: no such file"),
        (("--from-kernels", "nowhere"), "--from-kernels needs --model and --gpu"),
        (("--from-kernels", "x", "--gpu", "a100-80gb", "--model", "llama-3-8b"), "expected one file"),
        (("--from-kernels", "x", "--gpu", "v100", "--model", "llama-3-8b"), "--gpu v100: expected one of"),
        (
            ("--from-kernels", "x", "--gpu", "v100", "--gpu-memory", "32", "--model", "llama-3-8b"),
            "--gpu v100: the kernel tables cover",
        ),
        (("--from-steps", "x", "--gpu-memory", "32"), "--gpu-memory: name the card with --gpu"),
        (("--from-steps", "x", "--model", "gpt-5"), "--model gpt-5: expected one of"),
        (("--from-steps", "x", "-o", "there.json"), "-o there.json: exists; give --overwrite"),
    ],
)
def test_bad_calls_are_one_line(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.json").write_text("mine")
    assert call(*words) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    assert Path("there.json").read_text() == "mine"
