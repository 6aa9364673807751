"""vLLM's own loop, scheduler and our executor over a device that only takes time, on a clock of its own."""

from __future__ import annotations

import json
import queue
import tempfile
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.host import Graphs, HostCost, LaunchMode
from simsched.cost_model.models import LinearCost, TableCost
from simsched.engine.config import ResolvedConfig
from simsched.vllm.launch import LaunchModes
from simsched.vllm.stamps import DeviceTimer
from simsched.workload.trace import Trace
from validate.job import Job, Outcome
from validate.log_overhead import idle_executor
from validate.offline_engine import _trace_of
from validate.probe import Block
from validate.probe_player import play_blocks
from validate.recording import RealRecorder
from validate.virtual_engine import VirtualEngine

NO_COST = LinearCost(t0=0.01, a=0.0, b=0.0, c=0.0, d=0.0)  # of steps that are not simulated here


class TickingClock:
    """Every look at it takes some microseconds, so that no two stamps are alike."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 7e-6
        return self.time

    def from_wall(self, wall_time: float) -> float:
        return wall_time


class Event:
    """A CUDA event on the fake device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.time = 0.0

    def record(self) -> None:
        self.time = max(self._device.busy_until, self._device.clock.time)

    def query(self) -> bool:
        return self.time <= self._device.clock.time

    def synchronize(self) -> None:
        self._device.clock.time = max(self._device.clock.time, self.time)

    def elapsed_time(self, end: Event) -> float:
        return (end.time - self.time) * 1e3


class Times(Protocol):
    """Seconds of a batch: of its launch before the first kernel, and after it; on the device."""

    def of(self, scheduler_output: Any) -> tuple[float, float, float]: ...


class Device:
    """A worker whose launches take host time, and whose steps take device time after them."""

    def __init__(self, clock: TickingClock, times: Times) -> None:
        self.clock = clock
        self.times = times
        self.busy_until = 0.0

    def execute_model(self, scheduler_output: Any) -> Any:
        from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT

        self._output = scheduler_output
        if not scheduler_output.total_num_scheduled_tokens:
            return EMPTY_MODEL_RUNNER_OUTPUT
        before, self._after, self._device = self.times.of(scheduler_output)
        self.clock.time += before
        self.busy_until = max(self.busy_until, self.clock.time)
        return None

    def sample_tokens(self, grammar_output: Any) -> Any:
        from vllm.v1.outputs import AsyncModelRunnerOutput

        self.clock.time += self._after
        self.busy_until = end = max(self.busy_until + self._device, self.clock.time)
        tokens = self.tokens(self._output)
        clock = self.clock

        class Output(AsyncModelRunnerOutput):
            def get_output(self) -> Any:
                clock.time = max(clock.time, end)
                return tokens

        return Output()


def make_core(trace: Trace, policy: str, log: Path | None, config: ResolvedConfig, times: Times) -> Any:
    """vLLM's `EngineCore` with its real loop, our scheduler and executor, and the fake device."""
    from vllm.v1.engine.core import EngineCore

    clock = TickingClock()
    virtual = VirtualEngine(trace, policy, NO_COST, config, "policy")
    scheduler = virtual.scheduler
    scheduler.clock = clock
    scheduler.restart({"policy": policy, "step_log": None if log is None else str(log)})
    device = Device(clock, times)
    device.tokens = virtual.model_output  # type: ignore[attr-defined]
    executor = idle_executor(scheduler.vllm_config, device)
    executor._timer = DeviceTimer(lambda: Event(device))
    core = EngineCore.__new__(EngineCore)
    vars(core).update(
        scheduler=scheduler, model_executor=executor, batch_queue=deque(maxlen=2), batch_queue_size=2,
        is_pooling_model=False, is_mm_encoder_only=False, is_ec_consumer=True, use_spec_decode=False,
        check_for_draft_tokens=False, async_scheduling=config.async_scheduling, aborts_queue=queue.Queue(),
        log_stats=False, _weight_version=None,
        vllm_config=SimpleNamespace(
            observability_config=SimpleNamespace(enable_logging_iteration_details=False)
        ),
        log_error_detail=lambda output: nullcontext(),
    )  # fmt: skip
    core.step_fn = core.step_with_batch_queue if config.async_scheduling else core.step
    return SimpleNamespace(core=core, virtual=virtual, clock=clock)


class HostAndDevice:
    """Times of a host and a device that are known; the host's drift from run to run."""

    def __init__(self, scheduler: Any, host: HostCost, device: TableCost, speed: float) -> None:
        self._scheduler, self._host, self._device, self._speed = scheduler, host, device, speed

    def of(self, scheduler_output: Any) -> tuple[float, float, float]:
        from simsched.vllm.scheduler import chunks_of
        from simsched.vllm.step_log import features

        found = features(chunks_of(self._scheduler.requests, scheduler_output.num_scheduled_tokens, True))
        batch = StepFeatures(found["P"], found["N"], found["S"], found["K"], found["Q"])
        mode, padded = self._scheduler.launch_modes.of(batch.P, batch.N, batch.S)
        launch = self._speed * self._host.launch(batch, LaunchMode[mode.upper()])
        before = self._speed * self._host.before(batch, LaunchMode[mode.upper()])
        more = padded - batch.P - batch.N
        return before, launch - before, self._device.step_time(batch._replace(P=batch.P + more))


class FakeGpu:
    """An offline engine without a GPU, for the chain: vLLM's asynchronous loop on a virtual clock."""

    version = "0.32.0"

    def __init__(self, job: Job, host: HostCost, device: TableCost, speeds: Sequence[float]) -> None:
        self.num_gpu_blocks = int(job.given.get("num_gpu_blocks", 600))
        self.config = job.config.model_copy(update={"num_gpu_blocks": self.num_gpu_blocks})
        self._host, self._device = host, device
        self._speeds = speeds
        self._runs = 0
        capture = Graphs().capture(self.config.max_num_seqs, self.config.max_num_batched_tokens)
        self._sizes = list(capture.sizes)
        self.graphs = {"mode": "FULL_AND_PIECEWISE", "capture_sizes": self._sizes}

    def _start(self, trace: Trace, policy: str, log: Path) -> Any:
        from vllm.config import CUDAGraphMode

        made = make_core(trace, policy, log, self.config, None)  # type: ignore[arg-type]
        scheduler = made.core.scheduler
        compilation = SimpleNamespace(
            cudagraph_mode=CUDAGraphMode.FULL_AND_PIECEWISE, cudagraph_capture_sizes=self._sizes
        )
        engine = SimpleNamespace(max_num_seqs=self.config.max_num_seqs)
        scheduler.launch_modes = LaunchModes(
            SimpleNamespace(compilation_config=compilation, scheduler_config=engine)
        )
        speed = self._speeds[self._runs % len(self._speeds)]
        self._runs += 1
        made.core.model_executor.driver_worker.times = HostAndDevice(
            scheduler, self._host, self._device, speed
        )
        return made

    def run(self, job: Job) -> Outcome:
        recorder = RealRecorder(job.trace)
        names = {name: index for index, name in enumerate(job.trace.request_ids())}
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "steps.jsonl"
            made = self._start(job.trace, job.policy, log)
            stepped = Stepped(made, job.trace)
            arrived = 0
            arrivals = job.trace.arrival_time.tolist()
            while arrived < len(arrivals) or stepped.num_unfinished():
                while arrived < len(arrivals) and arrivals[arrived] <= made.clock.time:
                    stepped.add(arrived)
                    arrived += 1
                if not stepped.num_unfinished():
                    made.clock.time = arrivals[arrived]
                    continue
                for output in stepped.step():
                    recorder.tokens(names[output.request_id], len(output.new_token_ids), made.clock.time)
            steps = stepped.close(log)
        return Outcome(recorder.record(steps, made.clock.time), steps, [0.0])

    def probe(
        self, blocks: Sequence[Block], marker_block: Block, limit: float
    ) -> tuple[list[dict[str, Any]], list[str]]:
        made_blocks = [*blocks, *[marker_block] * 60]
        trace = _trace_of(made_blocks, [str(number) for number in range(len(made_blocks))])
        numbers = iter(range(len(trace)))
        shares = [list(islice(numbers, block.num_requests())) for block in made_blocks]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "steps.jsonl"
            made = self._start(trace, "fcfs", log)
            stepped = Stepped(made, trace)
            ours = list(zip(blocks, shares, strict=False))
            played = play_blocks(stepped, ours, shares[len(blocks) :], marker_block, made.clock, limit)
            return stepped.close(log), played

    def close(self) -> None:
        """Nothing runs."""


class Stepped:
    """The core as what plays on it sees it."""

    def __init__(self, made: Any, trace: Trace) -> None:
        self._made, self._names = made, trace.request_ids()
        self.returns: list[float] = []

    def add(self, request: int) -> None:
        self._made.core.scheduler.add_request(self._made.virtual.request(request, self._names[request]))

    def step(self) -> list[Any]:
        outputs, _ = self._made.core.step_fn()
        self.returns.append(self._made.clock.now())
        return outputs[0].outputs if outputs else []

    def num_unfinished(self) -> int:
        core = self._made.core
        return len(core.scheduler.requests) + len(core.batch_queue)

    def only_decodes(self) -> bool:
        scheduler = self._made.core.scheduler
        return not scheduler.waiting and not any(each.is_prefill_chunk for each in scheduler.running)

    def close(self, log: Path) -> list[dict[str, Any]]:
        """The step log, complete."""
        self._made.core.scheduler.restart({})
        steps = [json.loads(line) for line in log.read_text().splitlines()]
        for step in steps:
            step["returned"] = self.returns[bisect_left(self.returns, step["update_end"])]
        return steps
