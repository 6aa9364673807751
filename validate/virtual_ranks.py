"""Ranks of a mixture-of-experts model on a virtual clock: vLLM's own busy loops (`DPEngineCoreProc`), each
around a real scheduler, with no model behind them.

Each rank's loop runs in a thread of its own, one at a time, up to where it must wait: for a message, for a
forward pass, or for the others' answer. When all wait, the next thing happens. Only what moves bytes or
computes is ours: the queues, the executor, and the all-reduce.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.config import ResolvedConfig
from simsched.engine.rank_cost import DUMMY
from simsched.workload.trace import IntArray, Trace
from validate.virtual_engine import VirtualEngine


class _Stop(SystemExit):
    """Nothing is left to do."""


class VirtualRank:
    """One rank: its loop, its clock, and what it waits for."""

    def __init__(self, number: int, engine: VirtualEngine, arrivals: list[tuple[float, int]]) -> None:
        self.number = number
        self.engine = engine
        self.arrivals = deque(arrivals)  # time and row of those still to come
        self.messages: deque[Any] = deque()
        self.time = 0.0
        self.waits_for = ""
        self.asked: Any = None
        self.answer: Any = None
        self.log: list[dict[str, Any]] = []
        self.loop: Any = None  # vLLM's
        self._last: Any = None
        self._resume = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._error: BaseException | None = None
        self._stops = False

    def start(self, loop: Callable[[], None]) -> None:
        """Run up to where it must wait."""

        def run() -> None:
            self._resume.acquire()
            try:
                loop()
            except SystemExit:
                pass
            except BaseException as error:
                self._error = error
            self.waits_for = "nothing"
            self._stopped.release()

        threading.Thread(target=run, daemon=True).start()
        self.go_on()

    def go_on(self, answer: Any = None) -> None:
        """Give it what it waits for, and wait until it waits again."""
        self.answer = answer
        self.engine.clock.time = self.time
        self._resume.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End its loop."""
        self._stops = True
        self.go_on()

    def wait(self, what: str, asked: Any = None) -> Any:
        """Called in its loop: wait for this."""
        self.waits_for, self.asked = what, asked
        self._stopped.release()
        self._resume.acquire()
        if self._stops:
            raise _Stop
        return self.answer

    def at(self, time: float) -> None:
        self.time = self.engine.clock.time = max(self.time, time)

    # -- its input queue -------------------------------------------------------------------------------------
    def empty(self) -> bool:
        return not self.messages and not (self.arrivals and self.arrivals[0][0] <= self.time)

    def get(self, block: bool = True) -> Any:
        if self.empty():
            self.wait("message")
        return self.get_nowait()

    def get_nowait(self) -> Any:
        from vllm.v1.engine import EngineCoreRequestType

        if self.messages:
            return self.messages.popleft()
        _, row = self.arrivals.popleft()
        engine = self.engine
        request = engine.request(row, engine.trace.request_ids()[row])
        return EngineCoreRequestType.ADD, (request, self.loop.current_wave)

    # -- its executor ----------------------------------------------------------------------------------------
    is_sleeping = False

    def execute_model(self, output: Any, non_block: bool = False) -> Any:
        engine = self.engine
        engine.preempted.update(output.preempted_req_ids or ())
        record, _ = engine.record(output) if output.num_scheduled_tokens else (None, 0.0)
        sampled = engine.model_output(output)
        end = self.time if record is None else self.wait("pass", (engine.features, record))
        return _Ready(self, end, sampled)

    def sample_tokens(self, grammar_output: Any, non_block: bool = False) -> Any:
        return self._last

    def execute_dummy_batch(self) -> None:
        self.wait("pass", (DUMMY, None))


class _Ready:
    """A result that is there from some time on."""

    def __init__(self, rank: VirtualRank, time: float, output: Any) -> None:
        self._rank, self._time, self._output = rank, time, output
        rank._last = self

    def result(self) -> Any:
        self._rank.at(self._time)
        return self._output


def play_ranks(
    trace: Trace,
    replica: IntArray,
    num_ranks: int,
    policy: str,
    cost: CostModel,
    config: ResolvedConfig,
    scheduler: str,
) -> list[list[dict[str, Any]]]:
    """What each rank does in each pass: `time, step_time, dummy`, and where it is none, as a step log has it.

    Args:
        replica: (n,) which rank serves each request.
        scheduler: as in `make_scheduler`.
    """
    ranks = []
    for number in range(num_ranks):
        engine = VirtualEngine(trace, policy, cost, config, scheduler)
        # what counts is the loop (a scheduler of 0.33 that does not know of other ranks counts itself)
        engine.scheduler.local_prefill_interval = 1
        rows = [row for row in range(len(trace)) if replica[row] == number]
        rank = VirtualRank(number, engine, [(float(trace.arrival_time[row]), row) for row in rows])
        rank.loop = _loop(rank, num_ranks, config)
        ranks.append(rank)
    with _all_reduce(ranks):
        for rank in ranks:
            rank.start(rank.loop.run_busy_loop)
        _Group(ranks, cost, 2 if config.async_scheduling else 1).run()
    return [rank.log for rank in ranks]


class _Group:
    """What happens once all ranks wait."""

    def __init__(self, ranks: Sequence[VirtualRank], cost: CostModel, depth: int) -> None:
        self._ranks = ranks
        self._cost = cost
        self._ends = deque([0.0] * depth, maxlen=depth)  # of the latest passes

    def run(self) -> None:
        ranks = self._ranks
        while True:
            waiting = {rank.waits_for for rank in ranks}
            idle = [rank for rank in ranks if rank.waits_for == "message"]
            if len(idle) == len(ranks):
                coming = [rank for rank in ranks if rank.arrivals]
                if not coming:
                    for rank in ranks:
                        rank.stop()
                    return
                first = min(coming, key=lambda rank: rank.arrivals[0][0])
                first.at(first.arrivals[0][0])
                first.go_on()
            elif idle:
                self._start_wave(idle)
            elif waiting == {"pass"}:
                self._pass()
            elif waiting == {"agreement"}:
                self._agree()
            else:
                raise RuntimeError(f"ranks wait for different things: {sorted(waiting)}")

    def _start_wave(self, idle: Sequence[VirtualRank]) -> None:
        """The coordinator tells those that are idle that another one has a request."""
        from vllm.v1.engine import EngineCoreRequestType

        start = min(rank.time for rank in self._ranks if rank not in idle)
        for rank in idle:
            rank.at(start)
            rank.messages.append((EngineCoreRequestType.START_DP_WAVE, (rank.loop.current_wave, -1)))
            rank.go_on()

    def _pass(self) -> None:
        ranks = self._ranks
        # All have launched it when the last one has, and nobody runs further ahead than one with work.
        launched = max(self._ends[0], *(rank.time for rank in ranks))
        begin = max(self._ends[-1], launched)
        duration = max(_seconds(self._cost, rank.asked[0]) for rank in ranks)
        self._ends.append(begin + duration)
        for rank in ranks:
            record = rank.asked[1]
            line = {"time": begin, "step_time": duration, "dummy": record is None}
            rank.log.append(line | (record or {}))
            rank.at(launched)
            rank.go_on(begin + duration)

    def _agree(self) -> None:
        ranks = self._ranks
        has_work = any(rank.asked for rank in ranks)
        time = max(rank.time for rank in ranks)
        for rank in ranks:
            # the ranks are idle when the last pass is over
            rank.at(time if has_work else max(time, self._ends[-1]))
            rank.go_on((has_work, False))


def _seconds(cost: CostModel, features: StepFeatures) -> float:
    if features.S:
        return cost.step_time(features)
    base, slope = cost.decode_line(features.N, features.num_waiting)
    return base + slope * features.K


@contextmanager
def _all_reduce(ranks: Sequence[VirtualRank]) -> Iterator[None]:
    """vLLM's question to all ranks, answered by us."""
    from vllm.config import ParallelConfig

    def sync_dp_state(
        first: Any, has_unfinished: bool, pending_pause: bool, *, group: Any = None
    ) -> tuple[bool, bool]:
        rank: VirtualRank = getattr(first, "virtual_rank", first)
        answer: tuple[bool, bool] = rank.wait("agreement", has_unfinished)
        return answer

    before = ParallelConfig.__dict__["sync_dp_state"]
    ParallelConfig.sync_dp_state = staticmethod(sync_dp_state)
    try:
        yield
    finally:
        ParallelConfig.sync_dp_state = before


def _loop(rank: VirtualRank, num_ranks: int, config: ResolvedConfig) -> Any:
    """vLLM's engine of a rank, without what it needs a machine for."""
    from vllm.v1.engine.core import DPEngineCoreProc, EngineShutdownState

    class Loop(DPEngineCoreProc):  # type: ignore[misc]  # vLLM is untyped here
        def __init__(self) -> None:
            self.scheduler = rank.engine.scheduler
            self.model_executor = rank
            self.input_queue = rank
            self.output_queue: queue.Queue[Any] = queue.Queue()
            self.aborts_queue: queue.Queue[Any] = queue.Queue()
            self.dp_group = rank
            self.dp_rank = self.engine_index = rank.number
            self.dp_size = num_ranks
            self.batch_queue_size = 2
            self.batch_queue: deque[Any] | None = deque(maxlen=2) if config.async_scheduling else None
            self.step_fn = self.step_with_batch_queue if config.async_scheduling else self.step
            self.prefill_schedule_interval = config.prefill_schedule_interval
            self.dp_sync_interval = config.dp_sync_interval or 16
            self.step_counter = self.current_wave = 0
            self.engines_running = False
            self.pending_pause = self.ignore_start_dp_wave = False
            self.eep_scaling_state = None
            self.has_coordinator = True
            self.publish_dp_lb_stats = False
            self.process_input_queue_block = True
            self.shutdown_state = EngineShutdownState.RUNNING
            self.is_mm_encoder_only = self.is_pooling_model = False
            self.is_ec_consumer = True
            self.reject_new_requests = False
            self.check_for_draft_tokens = self.use_spec_decode = False
            self.async_scheduling = config.async_scheduling
            self.enable_fault_tolerance = False
            self._idle_state_callbacks: list[Any] = []
            self.vllm_config = rank.engine.scheduler.vllm_config

        def add_request(self, request: Any, request_wave: int = 0) -> None:
            self.scheduler.add_request(request)

        def capture_iteration_details(self, scheduler_output: Any) -> Any:
            return nullcontext()

        log_error_detail = log_iteration_details = capture_iteration_details

        def _attach_iteration_details(self, *args: Any) -> None: ...
        def _attach_weight_version(self, *args: Any) -> None: ...
        def _reject_add_in_shutdown(self, request: Any) -> bool:
            return False

    return Loop()
