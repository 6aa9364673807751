"""What the policy scheduler costs beside vLLM's own: processor time of a step, the two alternating.

Two ratios for each policy. Against vLLM's FCFS: what a step costs if the policy is switched on. Within the
same batches: the adapter's whole step over the part of it that is spent inside vLLM's own methods. A policy
that preempts and admits in every step makes vLLM itself work more; only the second tells the two apart.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simsched.cost_model.models import LinearCost
from simsched.engine.config import engine_config
from simsched.policies.spec import make_policy
from simsched.predictors.spec import apply_predictor
from simsched.workload.trace import Trace
from validate.virtual_engine import VirtualEngine

POLICIES = (
    "fcfs",
    "ranking",
    "srtf",
    "classification",
    "po",
    "mlfq",
    "ranking(starvation_threshold=100,starvation_period=50)",
)
METHODS = ("schedule", "update_from_output", "_preempt_request", "add_request", "finish_requests")
COST = LinearCost(t0=0.011, a=5.3e-5, b=6.4e-5, c=8e-8, d=3.7e-9)
STEPS = 15
"""Of each engine before the other's turn."""


@dataclass(frozen=True)
class Overhead:
    """Milliseconds of a step (medians over the rounds), and the two ratios."""

    policy: str
    builtin_ms: float
    """vLLM's own scheduler, FCFS: its batch stays as it is."""
    step_ms: float
    vllm_ms: float
    """The part of `step_ms` inside vLLM's own methods."""
    preemptions: float
    """Of a step, in the mean."""
    against_builtin: float
    same_batches: float

    def as_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return dict(vars(self))


def measure(policy: str, *, running: int = 256, waiting: int = 1000, rounds: int = 12) -> Overhead:
    """A policy's step with so many requests running and at least so many waiting."""
    trace = crowd(running + waiting + 200)
    filled, _ = apply_predictor(None, make_policy(policy), trace, seed=0)
    config = engine_config(max_num_seqs=running, num_gpu_blocks=150 * running, max_model_len=4096)
    base = _Timed(VirtualEngine(trace, "fcfs", COST, config, "builtin"))
    ours = _Timed(VirtualEngine(filled, policy, COST, config, "policy"))
    for timed in (base, ours):
        timed.run(4 * STEPS)  # until all have arrived and the batch is full
    samples = []
    for _ in range(rounds):
        samples.append((base.run(STEPS), ours.run(STEPS)))
        if len(ours.scheduler.waiting) < waiting or len(base.scheduler.waiting) < waiting:
            raise RuntimeError(f"{policy}: fewer than {waiting} requests are left waiting")

    def median(value: Callable[[_Sample, _Sample], float]) -> float:
        return statistics.median(value(*pair) for pair in samples)

    return Overhead(
        policy,
        builtin_ms=median(lambda theirs, mine: theirs.total) * 1e3,
        step_ms=median(lambda theirs, mine: mine.total) * 1e3,
        vllm_ms=median(lambda theirs, mine: mine.vllm) * 1e3,
        preemptions=float(np.mean([mine.preemptions for _, mine in samples])),
        against_builtin=median(lambda theirs, mine: mine.total / theirs.total),
        same_batches=median(lambda theirs, mine: mine.total / mine.vllm),
    )


def crowd(num_requests: int) -> Trace:
    """Requests that all come at once, none of which ends while it is watched."""
    stream = np.random.default_rng(0)
    return Trace(
        arrival_time=np.linspace(0, 1e-3, num_requests),
        num_prompt_tokens=stream.integers(20, 60, num_requests),
        num_output_tokens=stream.integers(400, 1200, num_requests),
        name="crowd",
    )


@dataclass(frozen=True)
class _Sample:
    """Seconds of a step, in the mean over a round."""

    total: float
    vllm: float
    preemptions: float


class _Timed:
    """Counts this thread's seconds in a scheduler's methods, vLLM's own apart from the adapter's."""

    def __init__(self, engine: VirtualEngine) -> None:
        from vllm.v1.core.sched.scheduler import Scheduler

        self.scheduler = engine.scheduler
        self._spent = {"outside": 0.0, "adapter": 0.0, "vllm": 0.0}
        self._place, self._since = "outside", 0.0
        self._steps: Iterator[dict[str, Any]] = engine.steps()
        kind = type(self.scheduler)
        # a class of this engine's own: `super()` of the adapter finds the timed vLLM methods behind it
        for name in METHODS:
            original = getattr(kind, name)
            place = "vllm" if original is getattr(Scheduler, name) else "adapter"
            setattr(self.scheduler, name, self._timed(original.__get__(self.scheduler), place))
        self._parent = Scheduler

    def run(self, steps: int) -> _Sample:
        """So many steps."""
        inner = {name: getattr(self._parent, name) for name in METHODS}
        for name, method in inner.items():
            setattr(self._parent, name, self._timed(method, "vllm"))
        try:
            self._spent = dict.fromkeys(self._spent, 0.0)
            preempted = sum(len(next(self._steps)["preempted"]) for _ in range(steps))
        finally:
            for name, method in inner.items():
                setattr(self._parent, name, method)
        adapter, vllm = self._spent["adapter"], self._spent["vllm"]
        return _Sample((adapter + vllm) / steps, vllm / steps, preempted / steps)

    def _timed(self, method: Callable[..., Any], place: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            outer = self._enter(place)
            try:
                return method(*args, **kwargs)
            finally:
                self._enter(outer)

        return call

    def _enter(self, place: str) -> str:
        now = time.thread_time()
        before, self._place = self._place, place
        self._spent[before] += now - self._since
        self._since = now
        return before
