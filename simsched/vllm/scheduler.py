"""vLLM's scheduler under one of our policies: `PolicyScheduler`, and `AsyncPolicyScheduler`.

vLLM's own `schedule()` runs unchanged. Before it, waiting and running are sorted by the policy and, if the
policy is preemptive, running requests make way for better waiting ones. `fcfs` and `priority` without
preemption are vLLM's built-in orders and are left to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.logger import init_logger
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.request_queue import SchedulingPolicy, create_request_queue
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.request import Request, RequestStatus

from simsched.cost_model.profile import load_profile
from simsched.engine.preemption import Room, plan_preemptions
from simsched.engine.step_clock import StepClock
from simsched.engine.vllm_v1.policy_steps import discipline
from simsched.errors import InputError
from simsched.policies.base import hooks_of
from simsched.policies.spec import make_policy
from simsched.vllm.clock import Clock, EngineClock
from simsched.vllm.decisions import Decisions
from simsched.vllm.launch import LaunchModes
from simsched.vllm.priority_tracker import PriorityTracker
from simsched.vllm.queue import KEY, PolicyQueue
from simsched.vllm.request_state import cached_tokens, is_draining, is_ending, outstanding
from simsched.vllm.settings import read_settings, refuse_unsupported
from simsched.vllm.stamps import ATTRIBUTE, Stamps
from simsched.vllm.step_log import Chunk, EngineStepLog, features, log_path
from simsched.vllm.version import check_version, installed_version
from simsched.vllm.view import HINT, HashedBlocks, VllmView

logger = init_logger("vllm.simsched")


@dataclass(slots=True)
class Step:
    """A batch under way. Times in seconds of the engine's clock."""

    output: Any
    views: list[VllmView]
    stamps: Stamps
    start: float
    """No earlier than the end of the step before."""
    scheduled: float
    record: dict[str, Any]
    end: float = 0.0
    over: float | None = None
    """When its successor began, or it ended; its line may be written from then on."""


def chunks_of(requests: Mapping[str, Any], scheduled: Mapping[str, int], asynchronous: bool) -> list[Chunk]:
    """What each request computes in the batch that vLLM's `schedule()` has just formed."""
    chunks = []
    for name, tokens in scheduled.items():
        request = requests[name]
        # vLLM has already counted this step's tokens as computed, and its output token as on its way
        is_decode = (
            tokens == 1
            and not request.is_prefill_chunk
            and request.num_output_tokens + request.num_output_placeholders > asynchronous
        )
        chunks.append((tokens, request.num_computed_tokens - tokens, is_decode))
    return chunks


class PolicyScheduler(Scheduler):  # type: ignore[misc]  # vLLM is untyped here
    """For vLLM without asynchronous scheduling (on a CPU, or with `--no-async-scheduling`)."""

    asynchronous = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check_version(installed_version())
        super().__init__(*args, **kwargs)
        refuse_unsupported(self.vllm_config, self.asynchronous)
        self.clock: Clock = EngineClock()
        self._log: EngineStepLog | None = None
        self.launch_modes = LaunchModes(self.vllm_config)
        self.restart((self.vllm_config.additional_config or {}).get("simsched", {}))

    def restart(self, given: Mapping[str, Any]) -> None:
        """Serve under these settings (`settings.py`) from now on, with nothing cached; for an idle engine.

        Raises:
            InputError: a bad setting, or requests that are not finished.
        """
        settings = read_settings(given)
        if self.requests:
            raise InputError(f"simsched: {len(self.requests)} requests are not finished; cannot restart")
        policy = make_policy(settings.policy)
        self.step_clock = StepClock()
        self.priorities = PriorityTracker(policy, self.step_clock)
        self.views: dict[str, VllmView] = {}
        self._arrivals = 0
        self._warned = False
        self._decodes_first = settings.decodes_first
        self.held_until_scheduled: list[Request] = []
        """Out of the queue until the step is formed: displaced in it, or not let in."""
        self._displaced: list[str] = []
        self._turned_away: list[Request] = []
        self._preempted: list[str] = []
        self._arrived: dict[str, float] = {}
        self._added: list[float] = []
        self._empty_schedules: list[float] = []
        self._now = 0.0
        self._in_flight: deque[Step] = deque()
        self._close_log()
        self._unwritten: deque[Step] = deque()
        self._last_update = float("-inf")
        if settings.step_log:
            engine = getattr(self.vllm_config.parallel_config, "data_parallel_index", 0)
            self._log = EngineStepLog(log_path(settings.step_log, engine))
        order = discipline(policy)
        self.builtin_order = order != "policy"
        if self.builtin_order:
            self.policy = SchedulingPolicy(order)
            self.waiting = create_request_queue(self.policy)
            self.kv_holding_waiting = create_request_queue(self.policy)
        else:
            # vLLM's rule "the victim is the last of `running`" then means the worst one
            self.policy = SchedulingPolicy.FCFS
            self.waiting = PolicyQueue()
        self.decisions = Decisions(self, policy) if hooks_of(policy) else None
        if self.decisions is not None and settings.cost_profile is not None:
            self.decisions.view.take_cost(load_profile(settings.cost_profile).cost)
        self.reset_prefix_cache()
        logger.info("simsched: policy %s, preemptive: %s", settings.policy, policy.preemptive)

    # -- requests come and go ------------------------------------------------------------------------------

    def add_request(self, request: Request) -> None:
        if request.request_id not in self.requests:
            arrival = self.clock.from_wall(request.arrival_time)
            now = self.clock.now()
            view = VllmView(request, arrival, self._arrivals, self.step_clock)
            self._arrivals += 1
            request.priority = view.priority
            self.views[request.request_id] = view
            if self._log is not None:
                self._arrived[view.request_id] = arrival
                self._added.append(now)
            request.simsched_view = view
            if self.priorities.policy.reads_prompts:
                view.blocks = HashedBlocks(request, self.block_size)
            if not self.builtin_order and not self.priorities.add(view, now):
                self._warn(view)
        super().add_request(request)

    def _warn(self, view: VllmView) -> None:
        if not self._warned:
            self._warned = True
            hint, policy = HINT + str(self.priorities.policy.reads), self.priorities.policy.name
            text = "simsched: request %s came without %s, which policy %s reads: served last"
            logger.warning(text, view.request_id, hint, policy)

    def finish_requests(self, *args: Any, **kwargs: Any) -> Any:
        aborted = super().finish_requests(*args, **kwargs)
        self._forget_finished(self.clock.now())
        return aborted

    def _forget_finished(self, now: float, step: Step | None = None) -> None:
        """Drop the views of requests that vLLM has dropped; their last step, if over, is counted first."""
        ended = []
        if len(self.views) != len(self.requests):
            ended = [each for each in self.views if each not in self.requests]
            for request_id in ended:
                self.views[request_id].ended = True
        if step is not None and not self.builtin_order:
            self.priorities.step_done(step.views, step.start, now)
        for request_id in ended:
            view = self.views.pop(request_id)
            if self.decisions is not None:
                self.decisions.departed(view)
            if not self.builtin_order:
                self.priorities.finished(view, now)

    def _preempt_request(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super()._preempt_request(request, *args, **kwargs)
        view = self.views[request.request_id]
        self._preempted.append(view.request_id)
        if self.decisions is not None:
            self.decisions.departed(view)
        if not self.builtin_order:
            self.priorities.preempted(view, self._now)

    # -- a step --------------------------------------------------------------------------------------------

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        now = self._now = self.clock.now()
        self._write_over(now)
        if not self.builtin_order:
            self._order(now)
        if self.decisions is not None:
            self.decisions.watch_running()
        output = super().schedule(*args, **kwargs)
        if self.decisions is not None:
            self.decisions.after_schedule()
        if self.held_until_scheduled:
            if output.preempted_req_ids is not None:  # vLLM 0.24 reports only those of its own schedule()
                output.preempted_req_ids.update(self._displaced)
            self._displaced.clear()
            self.waiting.prepend_requests(self.held_until_scheduled)
            self.held_until_scheduled.clear()
        if output.num_scheduled_tokens:
            self._begin(output, now)
        elif self._log is not None:
            self._empty_schedules.append(now)
        return output

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        now = self._now = self.clock.now()
        step = None
        if self._in_flight and self._in_flight[0].output is scheduler_output:
            step = self._in_flight.popleft()
            # asynchronous: this step could not start before the last one was over
            step.start = max(step.start, self._last_update)
            step.scheduled = max(step.scheduled, self._last_update)
            self._last_update = now
            step.end = step.stamps.update_begin = now
            if self.asynchronous:
                step.over = now
        result = super().update_from_output(scheduler_output, model_runner_output)
        self._forget_finished(now, step)
        if self._turned_away:
            self._answer_turned_away(result)
        if step is not None and self._log is not None:
            step.stamps.update_end = updated = self.clock.now()
            self._unwritten.append(step)
            if not self.views:
                self._write_over(updated, wait=True)
        return result

    def turn_away(self, view: VllmView) -> None:
        """The policy has rejected this request: its client is told with the output of the next step."""
        request_id = view.engine_request.request_id
        self._turned_away += [self.requests[request_id]]
        self.finish_requests(request_id, RequestStatus.FINISHED_ERROR)

    def _answer_turned_away(self, result: dict[int, EngineCoreOutputs]) -> None:
        for request in self._turned_away:
            output = EngineCoreOutput(
                request_id=request.request_id, new_token_ids=[], finish_reason=request.get_finished_reason()
            )
            outputs = result.setdefault(request.client_index, EngineCoreOutputs())
            outputs.outputs = [*outputs.outputs, output]
        self._turned_away.clear()

    def shutdown(self) -> None:
        self._close_log()
        super().shutdown()

    def _close_log(self) -> None:
        if self._log is not None:
            self._write_over(self._last_update, wait=True)
            self._log.close()
            self._log = None

    def _order(self, now: float) -> None:
        """Sort waiting and running by the policy, and let waiting requests displace worse running ones."""
        if self.priorities.policy.reads_cache:
            for request in self.waiting:
                found = cached_tokens(self.kv_cache_manager, request)
                self.priorities.found_in_cache(request.simsched_view, found)
        self.priorities.refresh(now, (each.simsched_view for each in self.waiting))
        if self.priorities.moved:
            self.waiting.resort()
            self.priorities.moved = False
        self.running.sort(key=KEY)
        if self.decisions is not None:
            self.decisions.before_schedule(now)
        if self.priorities.policy.preemptive and self.waiting and self.running:
            self._displace(now)
        if self._decodes_first:
            self.running.sort(key=lambda request: outstanding(request) > 1)

    def _displace(self, now: float) -> None:
        # vLLM 0.31 and later may admit fewer requests than fit a batch
        most: Any = getattr(self, "max_num_active_reqs", self.max_num_running_reqs)
        slots = most - len(self.running)
        worst = KEY(self.running[-1])[0]
        if slots < 1 and not KEY(self.waiting.peek_request())[0] < worst:
            return  # the usual case under load, told without looking at every running request
        limit = self.max_num_scheduled_tokens
        block_size = self.block_size
        room = Room(
            slots,
            self.kv_cache_manager.block_pool.get_num_free_blocks()
            - sum(request.num_computed_tokens % block_size == 0 for request in self.running),
            limit - sum(min(outstanding(request), limit) for request in self.running),
        )
        victims = plan_preemptions(
            ((KEY(each)[0], each) for each in self.waiting if not is_draining(each)),
            [(KEY(each)[0], each) for each in self.running if not (self.asynchronous and is_ending(each))],
            room,
            block_size,
            chunked=self.scheduler_config.enable_chunked_prefill,
        )
        if victims:
            gone = {id(victim) for victim in victims}
            self.running[:] = [request for request in self.running if id(request) not in gone]
        for victim in victims:
            self._preempt_request(victim, now)
            # out of sight of vLLM's schedule(), which would admit it again in the step that preempted it
            self.waiting.remove_request(victim)
            self._displaced.append(victim.request_id)
            self.held_until_scheduled.append(victim)

    # -- bookkeeping and step log --------------------------------------------------------------------------

    def _begin(self, output: Any, now: float) -> None:
        """A batch has been formed: note who runs, for their priorities and for the log."""
        scheduled = output.num_scheduled_tokens
        views = [self.views[request_id] for request_id in scheduled]
        stamps = Stamps(self.clock, alone=not self._in_flight, schedule_begin=now)
        record = {}
        if self._log is not None:
            record = self._record(scheduled, views)
            setattr(output, ATTRIBUTE, stamps)
        stamps.schedule_end = end = self.clock.now()
        self._in_flight.append(Step(output, views, stamps, now, end, record))

    def _record(self, scheduled: dict[str, int], views: list[VllmView]) -> dict[str, Any]:
        batch = features(chunks_of(self.requests, scheduled, self.asynchronous))
        mode, padded = self.launch_modes.of(batch["P"], batch["N"], batch["S"])
        pool = self.kv_cache_manager.block_pool
        preempted, self._preempted = self._preempted, []
        arrived, self._arrived = self._arrived, {}
        added, self._added = self._added, []
        empty, self._empty_schedules = self._empty_schedules, []
        return {
            "scheduled": {
                view.request_id: tokens for view, tokens in zip(views, scheduled.values(), strict=True)
            },
            "preempted": preempted,
            "num_running": len(self.running),
            "num_waiting": len(self.waiting),
            "kv_blocks_used": pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(),
            **batch,
            "launch_mode": mode,
            "padded_tokens": padded,
            "arrived": arrived,
            "added": added,
            "empty_schedules": empty,
        }

    def _write_over(self, now: float, *, wait: bool = False) -> None:
        """Write the steps that are over at `now`; scheduling and output, up to its successor's start, are a
        synchronous step's time. Those that the device has not done with stay, unless this is to `wait`."""
        for step in self._unwritten:
            if step.over is None:
                step.over = now
        while self._unwritten and self._log is not None:
            step = self._unwritten[0]
            if not step.stamps.complete(wait=wait):
                break
            assert step.over is not None
            record = {
                **step.record,
                "exec_time": step.end - step.scheduled,
                "end": step.end,
                **step.stamps.columns(),
            }
            self._log.write(step.start, step.over, record)
            self._unwritten.popleft()


class AsyncPolicyScheduler(PolicyScheduler, AsyncScheduler):  # type: ignore[misc]
    """For asynchronous scheduling, vLLM's default on a GPU."""

    asynchronous = True
