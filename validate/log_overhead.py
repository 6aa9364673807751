"""What the step log costs a step: its line, and the stamps of launch and wait, with no model behind them."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsched.engine.config import engine_config
from simsched.vllm.clock import EngineClock
from simsched.vllm.stamps import ATTRIBUTE, Stamps
from validate.overhead import COST, STEPS, crowd
from validate.virtual_engine import VirtualEngine


@dataclass(frozen=True)
class LogOverhead:
    """Microseconds of this thread's processor time a step, medians over the rounds."""

    running: int
    """Requests in each batch."""
    line_us: float
    """The line: who ran, features, stamps of the scheduler; writing included."""
    stamps_us: float
    """Stamps around launch and wait, with the device's events where there is a GPU."""

    def as_json(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return dict(vars(self))


def measure_log(*, running: int = 256, rounds: int = 12) -> LogOverhead:
    """On vLLM's real scheduler, and on our executor over a worker that does nothing."""
    config = engine_config(
        max_num_seqs=running, num_gpu_blocks=150 * running, max_model_len=4096, async_scheduling=True
    )
    engine = VirtualEngine(crowd(running + 100), "fcfs", COST, config, "policy")
    scheduler, steps = engine.scheduler, engine.steps()
    with tempfile.TemporaryDirectory() as folder:
        scheduler.restart({"policy": "fcfs", "step_log": str(Path(folder) / "steps.jsonl")})
        for _ in range(2 * STEPS):
            next(steps)
        spent = [0.0]
        for name in ("_record", "_write_over"):
            setattr(scheduler, name, _counted(getattr(scheduler, name), spent))
        lines = []
        for _ in range(rounds):
            spent[0] = 0.0
            for _ in range(STEPS):
                next(steps)
            lines.append(spent[0] / STEPS)
    stamps = _stamps(scheduler.vllm_config, rounds)
    return LogOverhead(running, statistics.median(lines) * 1e6, stamps * 1e6)


def _counted(method: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        begin = time.thread_time()
        try:
            return method(*args, **kwargs)
        finally:
            spent[0] += time.thread_time() - begin

    return call


def _stamps(vllm_config: Any, rounds: int) -> float:
    executor = idle_executor(vllm_config, _Nothing())
    clock = EngineClock()

    def step(stamps: Stamps | None) -> None:
        output = _Output()
        if stamps is not None:
            setattr(output, ATTRIBUTE, stamps)
        executor.execute_model(output, non_block=True)
        executor.sample_tokens(None, non_block=True).result()
        if stamps is not None:
            stamps.complete(wait=True)
            stamps.columns()

    def stamped() -> None:
        step(Stamps(clock, alone=True, schedule_begin=clock.now(), schedule_end=clock.now()))

    samples = []
    for _ in range(rounds):
        with_stamps = _each(stamped, 40 * STEPS)
        samples.append(with_stamps - _each(lambda: step(None), 40 * STEPS))
    return statistics.median(samples)


def idle_executor(vllm_config: Any, worker: Any) -> Any:
    """Our executor over a worker that is given, not made."""
    from simsched.vllm.executor import TimedExecutor

    class Idle(TimedExecutor):
        def _init_executor(self) -> None:
            self.driver_worker = worker
            self.start_stamping()

    return Idle(vllm_config)


class _Output:
    """Stands for a `SchedulerOutput`."""


class _Nothing:
    """A worker that does nothing."""

    def execute_model(self, scheduler_output: Any) -> None:
        return None

    def sample_tokens(self, grammar_output: Any) -> None:
        return None


def _each(action: Callable[[], Any], count: int) -> float:
    begin = time.thread_time()
    for _ in range(count):
        action()
    return (time.thread_time() - begin) / count
