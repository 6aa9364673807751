"""The chain of a GPU, on vLLM's asynchronous loop over a known host and device: it must find them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.calibrate import Target, from_steps
from simsched.cost_model.host import HostCost
from simsched.cost_model.models import TableCost
from simsched.cost_model.overlap_fit import fit_overlap
from simsched.cost_model.overlapped import read_overlapped
from tests.vllm.fake_gpu import FakeGpu
from validate.chain import judge
from validate.job import Job
from validate.probe_player import probe_job, write_half
from validate.replay import Engines
from validate.session import Session, Settings
from validate.setups import SETUPS, Lengths, Setup
from validate.verdicts import to_lines

pytestmark = pytest.mark.vllm
# a tenth of an H100's tokens, and like its times
HOST = HostCost(full=0.0035, piecewise=0.0095, none=0.018, per_sequence=5e-5, per_chunk=2e-4,
                before_first_kernel=(0.0028, 0.0))  # fmt: skip
DEVICE = TableCost(knots=(1, 64, 512), g=(0.006, 0.007, 0.045), c=4e-7, d=1e-9, h=1e-5, per_chunk=5e-4)
ENGINE: dict[str, int | bool] = {
    "max_num_seqs": 32,
    "max_num_batched_tokens": 256,
    "max_model_len": 1024,
    "async_scheduling": True,
}


def start(job: Job, speeds: tuple[float, ...] = (1.0,)) -> FakeGpu:
    return FakeGpu(job, HOST, DEVICE, speeds)


def test_the_probe_workload_tells_host_and_device(vllm_version: str, tmp_path: Path) -> None:
    """Launches by mode, and device times of decodes and of full steps, from the probe's log alone."""
    engine = start(probe_job({**ENGINE, "vllm_version": FakeGpu.version}))
    facts = {"device": "cuda", "model": "llama-3-8b", "engine": "offline", "clock": "wall"}
    for half in (0, 1):
        write_half(engine, half, tmp_path, facts, seed=0, limit=1e9)
    found = json.loads((tmp_path / "replay.json").read_text())
    assert list(found["cells"]) == ["half-1", "half-2"]
    assert found["graphs"]["mode"] == "FULL_AND_PIECEWISE"
    for cell in found["cells"].values():
        assert not cell["not_played"]
        assert cell["host"]["none"]["median_ms"] == pytest.approx(18.5, abs=1.5)
    error = from_steps([tmp_path], Target("a card", None, None), "table", 0, "").file.fit
    assert error is not None
    assert error.total is not None
    assert error.median < 0.005  # on steps held out
    assert abs(error.total) < 0.01
    steps = read_overlapped([tmp_path])
    fit = fit_overlap(steps, np.ones(len(steps), dtype=bool))
    for name in ("full", "piecewise", "none", "per_sequence"):
        assert fit.terms[name] / 1e3 == pytest.approx(getattr(HOST, name), rel=0.03), name
    assert fit.terms["per_chunk"] / 1e3 == pytest.approx(HOST.per_chunk, rel=0.1)
    assert fit.terms["before"] / 1e3 == pytest.approx(HOST.before_first_kernel[0], rel=0.05)
    for batch in (
        StepFeatures(N=1, K=40),
        StepFeatures(N=32, K=8000),
        StepFeatures(P=256, S=1, Q=256 * 128),
        StepFeatures(P=200, S=4, N=24, K=3000, Q=5000),
    ):
        assert fit.device().step_time(batch) == pytest.approx(DEVICE.step_time(batch), rel=0.02), batch


def test_the_chain_of_a_gpu(vllm_version: str, tmp_path: Path) -> None:
    """Cut off once and resumed; decisions, times at each run's host speed, and what it says of the host."""
    setup = Setup(
        model="llama-3-8b",
        engine=ENGINE,
        validation={"chat": Lengths(60, 300, 30, 120, 0.9)},
        loads=("0.8x", "1.5x"),
        policies=SETUPS["cuda"].policies,
        num_requests=150,
        duration=4.0,
    )
    settings = Settings("cuda", "wall", 0, 2, setup.policies, setup.loads, FakeGpu.version)
    said: list[str] = []
    cells = 0

    class Cut(FakeGpu):
        def run(self, job: Job):  # type: ignore[no-untyped-def]
            nonlocal cells
            cells += 1
            if cells == 4:
                raise KeyboardInterrupt
            return super().run(job)

    def make(job: Job) -> FakeGpu:
        return Cut(job, HOST, DEVICE, (1.0, 0.8, 1.2, 1.0, 0.9))

    with Engines(make) as engines, pytest.raises(KeyboardInterrupt):
        Session(settings, setup, tmp_path, engines, said.append).run()
    with Engines(make) as engines:
        session = Session(replace(settings), setup, tmp_path, engines, said.append)
        assert session.run()
    assert cells == 13  # twelve, and the one that was cut off
    result = judge(session, said.append)
    assert result is not None
    found = result["verdicts"]
    assert found["decisions"]["different"] == []
    assert found["decisions"]["not_judged"] == []
    assert found["decisions"]["steps"] > 1000
    assert found["times_given"]["errors"]["mean_latency"]["mean_absolute"] < 0.05
    speeds = [speed for cells in result["host_speed"].values() for speed in cells.values()]
    assert min(speeds) < 0.9
    assert max(speeds) > 1.1
    facts = json.loads((tmp_path / "real-2" / "replay.json").read_text())
    assert all({"host_speed", "decisions", "host"} <= set(cell) for cell in facts["cells"].values())
    assert any(line.startswith("times, host speed given") for line in to_lines(found))
