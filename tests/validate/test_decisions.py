"""Decisions in a real engine's step logs: an H100's, asynchronous, and what a changed one looks like."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from simsched.errors import InputError
from validate.cli.decisions import decisions_command
from validate.decisions import decisions_of
from validate.replayed import plan_of

STEPS = {
    "calibration": {"0-fcfs-3-run0": 1755, "1-fcfs-20-run0": 1232, "2-fcfs-70-run0": 671},
    "fcfs-again-1-1.5x": {"0-fcfs-93.9-run0": 1330},
    "fcfs-again-2-0.9x": {"0-fcfs-56.6-run0": 1159},
    "fcfs-again-3-0.6x": {"0-fcfs-37.2-run0": 1514},
    "fcfs-real-1-0.6x": {"0-fcfs-37.2-run0": 1555},
    "fcfs-real-1-1.5x": {"0-fcfs-93.9-run0": 1330},
    "real-1-0.9x": {
        "0-fcfs-56.6-run0": 1090,
        "1-ranking-56.6-run0": 1163,
        "2-srtf-56.6-run0": 1167,
        "3-classification_max_length=600-56.6-run0": 1145,
        "4-mlfq-56.6-run0": 0,
    },
}


QUICK = ("real-1-0.9x", "fcfs-real-1-1.5x")


@pytest.mark.parametrize(
    "replay", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in STEPS]
)
def test_on_an_h100_every_decision_is_the_simulators(h100: Path, replay: str) -> None:
    found = decisions_of(h100 / replay)
    assert {cell: result["steps"] for cell, result in found.items()} == STEPS[replay]
    assert all(result["first_difference"] is None for result in found.values())
    unjudged = [cell for cell, result in found.items() if result["not_judged"]]
    assert unjudged == [cell for cell in found if "mlfq" in cell]  # reads seconds, which this log lacks


def test_a_changed_decision_is_found(h100: Path, tmp_path: Path) -> None:
    """Once the sixth step is said to have run a request for one token more."""
    replay = tmp_path / "real"
    shutil.copytree(h100 / "fcfs-real-1-0.6x", replay)
    shutil.copy(h100 / "chat.jsonl", tmp_path)
    (log,) = (replay / "steps").glob("*.jsonl")
    lines = log.read_text().splitlines()
    step = json.loads(lines[5])
    name = next(iter(step["scheduled"]))
    step["scheduled"][name] += 1
    log.write_text("\n".join([*lines[:5], json.dumps(step), *lines[6:]]))
    result = CliRunner().invoke(decisions_command, [str(replay)])
    assert result.exit_code == 1
    assert "step 6: scheduled: vLLM" in result.output
    assert result.output.endswith("6 steps checked, 1 runs differ\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("steps", r"0-fcfs-37\.2-run0\.jsonl: cannot read the step log"),
        ("replay.json", r"replay\.json: missing or damaged"),
        ("manifest.json", r"no manifest\.json"),
        ("line", r"run0\.jsonl:1: arrived None: not a step of real vLLM"),
        ("trace", r"chat\.jsonl"),
    ],
)
def test_what_cannot_be_checked_is_one_line(h100: Path, tmp_path: Path, damage: str, message: str) -> None:
    replay = tmp_path / "real"
    shutil.copytree(h100 / "fcfs-real-1-0.6x", replay)
    if damage == "steps":
        shutil.rmtree(replay / "steps")
    elif damage == "line":
        (log,) = (replay / "steps").glob("*.jsonl")
        log.write_text('{"time": 0, "end": 1, "scheduled": {}}\n')
    elif damage != "trace":
        (replay / damage).unlink()
    if damage != "trace":
        shutil.copy(h100 / "chat.jsonl", tmp_path)
    with pytest.raises(InputError, match=message):
        decisions_of(replay)


def test_what_is_not_played_yet_is_not_judged(h100: Path, tmp_path: Path) -> None:
    """A replay that goes on elsewhere: three of its five cells are done."""
    replay = tmp_path / "real"
    shutil.copytree(h100 / "real-1-0.9x", replay)
    shutil.copy(h100 / "chat.jsonl", tmp_path)
    facts = json.loads((replay / "replay.json").read_text())
    for name in ("1-ranking-56.6-run0", "2-srtf-56.6-run0"):
        del facts["cells"][name]
    (replay / "replay.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"replay\.json: damaged, no cell 1-ranking-56\.6-run0"):
        decisions_of(replay)
    (replay / "summary.json").unlink()
    found = decisions_of(replay)
    assert [name for name, each in found.items() if each["not_judged"] == "not played yet"] == [
        "1-ranking-56.6-run0",
        "2-srtf-56.6-run0",
    ]
    assert found["0-fcfs-56.6-run0"]["steps"] > 1000
    assert all(each["first_difference"] is None for each in found.values())


def test_another_trace_than_the_replayed_is_refused(h100: Path) -> None:
    with pytest.raises(InputError, match=r"calibration\.jsonl: not a trace that .*0\.6x has replayed"):
        decisions_of(h100 / "fcfs-real-1-0.6x", [h100 / "calibration.jsonl"])


def test_a_directory_that_was_cut_down_keeps_its_cells(h100: Path, tmp_path: Path) -> None:
    """Only MLFQ and ranking are left of five policies, and the rate was a share of another capacity."""
    replay = tmp_path / "real"
    shutil.copytree(h100 / "real-1-0.9x", replay)
    manifest = json.loads((replay / "manifest.json").read_text())
    names = ["4-mlfq-56.6-run0", "1-ranking-56.6-run0"]
    manifest["cells"] = {name: manifest["cells"][name] for name in names}
    manifest["study"]["request_rate"] = ["0.9x"]
    (replay / "manifest.json").write_text(json.dumps(manifest))
    plan = plan_of(replay, [h100 / "chat.jsonl"], max_num_seqs=32)
    assert {name: (cell.arm.policy, cell.load.request_rate) for name, cell in plan.cells.items()} == {
        names[0]: ("mlfq", 56.6),
        names[1]: ("ranking", 56.6),
    }
    assert list(plan.options) == names
    assert plan.options[names[0]] == manifest["cells"][names[0]]
    assert all(cell.arm.config.vllm_version == "0.25.1" for cell in plan.cells.values())
    assert all(cell.arm.config.max_num_seqs == 32 for cell in plan.cells.values())
