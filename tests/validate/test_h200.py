"""What was measured on an H200 (`validate/measured`): the device as its CUDA events say, every decision, and
the times with the host speed given."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from simsched.cost_model.calibrate import Target, from_steps, known_gpu, known_model
from simsched.cost_model.device_fit import timed_batches
from simsched.cost_model.fit import Steps
from simsched.cost_model.overlapped import read_overlapped
from validate.chain import judge
from validate.decisions import decisions_of
from validate.replay import Engines
from validate.session import Session, read_settings
from validate.setups import SETUPS

ARCHIVE = Path(__file__).parents[2] / "validate" / "measured" / "h200.tar.xz"


@pytest.fixture(scope="module")
def h200(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "h200"


def test_the_device_by_its_own_clock(h200: Path) -> None:
    """Fitted to the probe workload, beside the steps of 17 replays between whose events only kernels lie."""
    target = Target("h200", known_gpu("h200-141gb"), known_model("llama-3-8b"))
    cost = from_steps([h200 / "calibration"], target, "table", seed=0, command="").cost
    steps = read_overlapped([h200 / f"real-{turn}" for turn in (1, 2, 3)])
    batches = timed_batches(steps, np.ones(len(steps), dtype=bool))
    assert len(batches) == 12_199

    def error(some: Steps) -> float:
        return float(some.predict(cost).sum() / some.time.sum() - 1)

    assert np.abs(batches.predict(cost) / batches.time - 1).mean() < 0.02
    assert abs(error(batches)) < 0.01
    assert abs(error(batches.select(batches.S == 0))) < 0.01
    assert abs(error(batches.select(batches.P + batches.N >= 1900))) < 0.01


def test_every_decision_is_the_simulators(h200: Path) -> None:
    """Of a turn that was cut off: MLFQ's, too."""
    found = decisions_of(h200 / "real-3", [h200 / "traces" / "chat.jsonl"])
    assert {name: (each["steps"], each["not_judged"]) for name, each in found.items()} == {
        "0-fcfs-40.8-run0": (1247, None),
        "1-ranking-40.8-run0": (1203, None),
        "2-mlfq-40.8-run0": (1140, None),
        "3-fcfs-69.3-run0": (921, None),
        "4-ranking-69.3-run0": (932, None),
        "5-mlfq-69.3-run0": (0, "not played yet"),
    }
    assert all(each["first_difference"] is None for each in found.values())


@pytest.mark.slow
def test_the_times_with_the_host_speed_given(h200: Path) -> None:
    settings = read_settings(h200)
    with Engines(lambda job: pytest.fail("all is measured")) as engines:
        session = Session(settings, SETUPS["cuda"], h200, engines, print, deadline=0.0)
        assert not session.run()
    result = judge(session)
    assert result is not None
    found = result["verdicts"]
    assert found["decisions"]["different"] == []
    assert found["times_given"]["failures"] == []
    assert found["times_given"]["errors"]["mean_latency"]["mean_absolute"] < 0.02
    assert found["order"]["judged"]
    assert found["order"]["wrong"] == []
