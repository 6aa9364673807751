"""Policies cannot see the future: neither by looking at what they are given, nor by what the engine does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from simsched.cost_model.models import LinearCost
from simsched.engine.config import EngineConfig, engine_config, presets
from simsched.engine.prompt_blocks import NamedBlocks
from simsched.engine.simulator import simulate
from simsched.errors import InputError
from simsched.policies.base import NEVER, Change, Policy, hooks_of, registered
from simsched.policies.spec import make_policy
from simsched.request import RequestView
from simsched.workload.trace import Trace

COST = LinearCost(t0=0.01137, a=5.31e-5, b=6.41e-5, c=8.07e-8, d=3.7e-9)
SECRET = 5_077
"""Output tokens of every request: a number that comes up nowhere else."""
N = 12
VIEW = {name for name in vars(RequestView) if not name.startswith("_")}


def config(preset: str, **options: Any) -> EngineConfig:
    return engine_config(preset, max_num_seqs=3, num_gpu_blocks=2_000, max_model_len=8_192, **options)


def trace(outputs: np.ndarray | None = None) -> Trace:
    rng = np.random.default_rng(3)
    return Trace(
        np.arange(N) * 0.05,
        rng.integers(5, 40, N),
        np.full(N, SECRET) if outputs is None else outputs,
        score=rng.normal(size=N),
        predicted_class=rng.integers(0, 3, N),
        predicted_length=rng.integers(1, 400, N).astype(float),
        priority=rng.integers(0, 3, N),
        length_quantiles=np.sort(rng.integers(1, 400, (N, 4)).astype(float), axis=1),
    )


@dataclass(eq=False)
class Spy(Policy):
    """Looks at everything that is not marked as private, however deep, at every occasion."""

    reads_cache = reads_prompts = reads_sessions = True

    seen: ClassVar[dict[str, Any]] = {}
    """Of all copies: an engine may work on one."""

    def priority(self, request: RequestView, now: float) -> float:
        self.look_at(request)
        return request.arrival_time

    def next_change(self, request: RequestView, now: float) -> Change:
        self.look_at(request)
        return NEVER

    def on_arrival(self, request: RequestView, now: float) -> None:
        self.look_at(request)

    def on_preempt(self, request: RequestView, now: float) -> None:
        self.look_at(request)

    def look_at(self, request: RequestView) -> None:
        if request.num_output_tokens < 1_000:  # its own tokens reach the number in the end
            self._look(request, "request")

    def _look(self, thing: Any, where: str, depth: int = 3) -> None:
        if isinstance(thing, int | float | str | bool | None):
            self.seen[where] = thing
            assert thing not in (SECRET, str(SECRET)), f"{where} is the true output length"
            return
        if isinstance(thing, NamedBlocks):
            self.seen[where] = len(thing)
        if isinstance(thing, list | tuple | set | dict | np.ndarray | NamedBlocks):
            values = thing.values() if isinstance(thing, dict) else thing
            for value in list(values)[:50]:
                self._look(value, where + "[]", depth)
            return
        if depth and not callable(thing):
            for name in dir(thing):
                if not name.startswith("_"):
                    # a slot may be empty
                    self._look(getattr(thing, name, None), f"{where}.{name}", depth - 1)


@pytest.mark.parametrize("leap", [True, False])
@pytest.mark.parametrize("preset", presets())
def test_a_spy_learns_nothing(preset: str, leap: bool) -> None:
    Spy.seen.clear()
    few = trace().take(np.arange(3))  # no one waits until a request is done, and its tokens are told
    simulate(few, Spy(), COST, config(preset), leap=leap)
    assert {f"request.{name}" for name in VIEW} <= {where.removesuffix("[]") for where in Spy.seen}


def test_the_spy_would_notice() -> None:
    @dataclass
    class Leaky:
        num_output_tokens: int = 0
        nested: Any = field(default_factory=lambda: {"all": [1, SECRET]})

    with pytest.raises(AssertionError, match="true output length"):
        Spy().look_at(Leaky())


@pytest.mark.parametrize("preset", presets())
def test_a_view_has_what_the_contract_says_and_no_method(preset: str) -> None:
    found: set[str] = set()

    @dataclass(eq=False)
    class Lister(Policy):
        reads_cache = reads_prompts = reads_sessions = True

        def priority(self, request: RequestView, now: float) -> float:
            found.update(name for name in VIEW if hasattr(request, name))
            assert not hasattr(request, "max_tokens")
            assert not hasattr(request, "total")
            return request.arrival_time

    simulate(trace(np.full(N, 300)), Lister(), COST, config(preset))  # so long that some wait, and are asked
    assert found == VIEW


def tail_changed(first: int) -> tuple[Trace, Trace]:
    """Two workloads that agree on all outputs up to `first` tokens, and on everything that may be seen."""
    rng = np.random.default_rng(8)
    return trace(rng.integers(first, first + 60, N)), trace(rng.integers(first, first + 60, N))


@pytest.mark.parametrize("preset", presets())
@pytest.mark.parametrize("name", [*registered(), "ranking(starvation_threshold=5,starvation_period=2)"])
def test_what_is_to_come_changes_nothing_now(preset: str, name: str) -> None:
    """Until the first request is done, the engine does the same whatever the lengths of the answers."""
    if preset != "vllm-v1" and hooks_of(make_policy(name)):
        with pytest.raises(InputError, match="has no effect on preset"):
            simulate(trace(), make_policy(name), COST, config(preset))
        return
    logs = []
    for workload in tail_changed(25):
        steps: list[dict[str, Any]] = []
        pressed = engine_config(
            preset, max_num_seqs=3, max_num_batched_tokens=32, num_gpu_blocks=60, max_model_len=512
        )
        record = simulate(workload, make_policy(name), COST, pressed, step_log=steps.append)
        first_finish = float(np.nanmin(record.finish_time))
        logs.append([step for step in steps if step["time"] + step["step_time"] < first_finish])
    common = min(len(log) for log in logs)
    assert common >= 25
    assert logs[0][:common] == logs[1][:common]
    assert not np.array_equal(*(workload.num_output_tokens for workload in tail_changed(25)))
