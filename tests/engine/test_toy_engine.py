"""A new engine is a scheduler and one registration: static batching, as servers did before vLLM.

It fills a batch, prefills all its prompts in one step, decodes until the last of its requests is done, and
only then looks at who else waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import simsched
from simsched.cli import main
from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import LinearCost
from simsched.engine import config as presets
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch, Scheduler
from simsched.engine.config import EngineConfig, Preset, ResolvedConfig, engine_config, register_preset
from simsched.engine.recorder import Recorder
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import Policy
from simsched.policies.spec import make_policy
from simsched.record import RunRecord
from simsched.workload.trace import Trace

COST = LinearCost(t0=1.0, a=0.1, b=0.0, c=0.0, d=0.0)  # a second a step, and 0.1 for each prompt token


class StaticBatching:
    """The scheduler: requests by number, first come, first served."""

    swaps = False
    step_ends = None

    def __init__(self, config: ResolvedConfig, recorder: Recorder) -> None:
        self.counters: dict[str, int] = {}
        self._size = config.max_num_seqs
        self._recorder = recorder
        self._arrivals: list[Arrival] = []
        self._waiting: list[int] = []
        self._left: dict[int, int] = {}
        """Requests of the batch -> tokens that they have yet to get."""

    @property
    def num_running(self) -> int:
        return len(self._left)

    def add_request(self, arrival: Arrival, now: float) -> None:
        self._waiting.append(len(self._arrivals))
        self._arrivals.append(arrival)

    def has_unfinished(self) -> bool:
        return bool(self._waiting or self._left)

    def schedule(self, now: float) -> Batch | None:
        if self._left:
            return self._batch(
                StepFeatures(N=len(self._left), K=self._context()), dict.fromkeys(self._left, 1)
            )
        chosen, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
        if not chosen:
            return None
        prompts = {number: self._arrivals[number].num_prompt_tokens for number in chosen}
        self._left = {number: self._arrivals[number].num_output_tokens for number in chosen}
        pairs = sum(tokens * tokens / 2 for tokens in prompts.values())
        return self._batch(StepFeatures(P=sum(prompts.values()), S=len(chosen), Q=pairs), prompts)

    def _batch(self, features: StepFeatures, scheduled: dict[int, int]) -> Batch:
        return Batch(features, scheduled, num_running=len(scheduled), num_waiting=len(self._waiting))

    def _context(self) -> int:
        """Tokens that the decodes attend to."""
        requests = [(self._arrivals[number], left) for number, left in self._left.items()]
        return sum(each.num_prompt_tokens + each.num_output_tokens - left for each, left in requests)

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        return min(self._left.values()), inf

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        prefill = batch.features.S > 0
        self._recorder.steps(first, last, steps, 0 if prefill else len(self._left))
        if prefill:
            for number in self._left:
                self._recorder.begin(number, now - first, now)
        self._left = {number: left - steps for number, left in self._left.items()}
        done = [number for number, left in self._left.items() if not left]
        for number in done:
            self._recorder.finish(number, now)
            del self._left[number]
        return done


class StaticPreset(Preset):
    """The registration."""

    name = "static"
    about = "static batching"
    cost_profile = "a100-80gb/llama-3-8b"
    defaults: ClassVar[Mapping[str, Any]] = {"max_num_seqs": 32, "max_num_batched_tokens": 100_000}
    unsupported: ClassVar[Mapping[str, Any]] = {"async_scheduling": False, "watermark": 0.0}

    def make_scheduler(
        self, policy: Policy, config: ResolvedConfig, recorder: Recorder, **options: bool
    ) -> Scheduler:
        return StaticBatching(config, recorder)

    def check_policy(self, policy: Policy) -> None:
        if policy.builtin != "fcfs":
            raise InputError(f"policy {policy.name}: static batching serves by arrival; expected fcfs")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_presets", presets.presets())
    register_preset(StaticPreset())


def ran(arrivals: list[float], prompts: list[int], outputs: list[int], **options: Any) -> RunRecord:
    trace = Trace(np.array(arrivals), np.array(prompts), np.array(outputs))
    config = engine_config("static", num_gpu_blocks=1000, max_model_len=1000, max_num_seqs=2)
    return simulate(trace, make_policy("fcfs"), COST, config, **options)


@pytest.mark.parametrize("leap", [True, False])
def test_worked_by_hand(leap: bool) -> None:
    # two in a batch: prefill until 1 + 0.1 * 30 = 4, then a second a token; the third waits for both
    record = ran([0.0, 0.0, 0.5], [10, 20, 10], [3, 5, 1], leap=leap)
    assert record.first_token_time.tolist() == [4, 4, 10]
    assert record.finish_time.tolist() == [6, 8, 10]
    assert record.max_itl.tolist()[:2] == [1, 1]


def test_its_options_and_policies() -> None:
    assert EngineConfig(preset="static").max_num_seqs == 32
    with pytest.raises(InputError, match="--watermark: preset static has no such option"):
        EngineConfig(preset="static", watermark=0.1)
    with pytest.raises(InputError, match="policy srtf: static batching serves by arrival"):
        simsched.simulate("srtf", workload="sharegpt", request_rate=1, num_requests=5, preset="static")
    with pytest.raises(ValueError, match="there is a preset static already"):
        register_preset(type("Other", (StaticPreset,), {})())


def test_it_goes_through_run_compare_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        assert not stop.value.code
        return capsys.readouterr().out

    out = str(tmp_path / "out")
    call("run", "--preset", "vllm-v1,static", "--policy", "fcfs", "--request-rate", "4",
         "--num-requests", "80", "--num-runs", "2", "--jobs", "1", "--no-plot", "-o", out)  # fmt: skip
    compared = call("compare", out)
    assert "static" in compared
    call("plot", out, "--kind", "cdf")
    assert list(tmp_path.glob("out/figures/*.png"))
    latency = simsched.Results.open(out).summary.select("preset", "run", "mean_ttft_ms").rows()
    by_preset = {(preset, run): value for preset, run, value in latency}
    for run in (0, 1):  # why continuous batching took over
        assert by_preset["static", run] > 5 * by_preset["vllm-v1", run]
    assert "static batching" in call("list", "presets")
