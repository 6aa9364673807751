"""A policy's decisions beyond order in real vLLM, without a fork: who is let in is a matter of what stands in
the queue, the victim of what stands last in the list of running requests; budgets are the scheduler's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simsched.engine.decisions import BudgetHooks, Gate, ViewOfLists
from simsched.policies.base import Policy, hooks_of
from simsched.vllm.request_state import is_draining, outstanding


def view_of(request: Any) -> Any:
    """What a policy sees of this request of vLLM's."""
    return request.simsched_view


class _Pool:
    """vLLM's block pool."""

    def __init__(self, scheduler: Any) -> None:
        self._pool = scheduler.kv_cache_manager.block_pool

    @property
    def num_free(self) -> int:
        free: int = self._pool.get_num_free_blocks()
        return free

    @property
    def num_evictable(self) -> int:
        blocks = self._pool.free_block_queue.get_all_free_blocks()
        return sum(block.block_hash is not None for block in blocks)


class RunningList(list[Any]):
    """vLLM's list of running requests while a policy chooses victims.

    `schedule()` walks along it by index, and preempts its last request where blocks are short: the policy's
    victim is moved there as vLLM looks.
    """

    def __init__(self, requests: Iterable[Any], policy: Policy, view: ViewOfLists) -> None:
        super().__init__(requests)
        self._policy = policy
        self._view = view
        self._place = 0
        self._is_moved = False

    def __getitem__(self, index: Any) -> Any:
        if index == -1:
            self._move_victim()
        elif isinstance(index, int):
            self._place = index
        return super().__getitem__(index)

    def pop(self, index: Any = -1) -> Any:
        if index == -1 and not self._is_moved:
            self._move_victim()
        self._is_moved = False
        return super().pop(index)

    def _move_victim(self) -> None:
        self._is_moved = True
        self._view.freeze()
        candidates = list(self)[self._place :]
        victim = self._policy.victim([view_of(each) for each in candidates], self._view)
        request = next(each for each in candidates if view_of(each) is victim)
        self.remove(request)
        self.append(request)


class Decisions:
    """What the policy of a `PolicyScheduler` decides beyond the order of requests."""

    def __init__(self, scheduler: Any, policy: Policy) -> None:
        self._scheduler = scheduler
        self._policy = policy
        hooks = hooks_of(policy)
        self.gate = Gate(policy) if "admit" in hooks else None
        self._rejected: set[int] = set()  # by number, until the scheduler has dropped them
        self._chooses_victims = "victim" in hooks
        options = scheduler.scheduler_config
        pool = scheduler.kv_cache_manager.block_pool
        self.view = ViewOfLists(
            pool.num_gpu_blocks - 1,
            scheduler.block_size,
            self._max_running,
            scheduler.max_num_scheduled_tokens,
            options.long_prefill_token_threshold,
            scheduler.max_model_len,
            gate=self.gate,
            running=lambda: list(map(view_of, list(scheduler.running))),
            queue=lambda: list(map(view_of, scheduler.waiting)),
            held=lambda: list(map(view_of, scheduler.held_until_scheduled)),
            place=lambda view: view.key,
            steps=lambda: int(scheduler.step_clock.done),
            kv=_Pool(scheduler),
        )
        self._budgets = BudgetHooks(policy, self.view, options.enable_chunked_prefill)

    @property
    def _max_running(self) -> int:
        scheduler = self._scheduler
        # vLLM 0.31 and later may admit fewer requests than fit a batch
        most: int = getattr(scheduler, "max_num_active_reqs", scheduler.max_num_running_reqs)
        return most

    def before_schedule(self, now: float) -> None:
        """Ask the policy about the next step; the queue is in order. Who is not let in leaves it until the
        step is formed."""
        scheduler, view = self._scheduler, self.view
        view.begin_step(now)
        if self.gate is not None:
            waiting = [view_of(each) for each in scheduler.waiting if not is_draining(each)]
            self.gate.decide(waiting, view, now, self._turn_away)
            outside = [each for each in scheduler.waiting if not self.gate.is_in(view_of(each).number)]
            scheduler.waiting.remove_requests(outside)
            scheduler.held_until_scheduled += outside
        if self._budgets.is_used:
            has_place = len(scheduler.running) < self._max_running or self._policy.preemptive
            may_prefill = bool(scheduler.waiting and has_place) or any(
                outstanding(request) > 1 for request in scheduler.running
            )
            tokens, chunk = self._budgets.of_next_step(may_prefill)
            scheduler.max_num_scheduled_tokens = tokens
            scheduler.scheduler_config.long_prefill_token_threshold = chunk

    def _turn_away(self, view: Any) -> None:
        self._rejected.add(view.number)
        self._scheduler.turn_away(view)

    def departed(self, view: Any) -> None:
        """A request has finished, or lost its place; one that was turned away had none."""
        if self.gate is None:
            return
        if view.number in self._rejected:
            self._rejected.discard(view.number)
            self.gate.forget(view.number)
        else:
            self.gate.departed(view.number)

    def watch_running(self) -> None:
        """`schedule()` begins: it takes victims where the policy says."""
        if self._chooses_victims:
            scheduler = self._scheduler
            scheduler.running = RunningList(scheduler.running, self._policy, self.view)

    def after_schedule(self) -> None:
        """`schedule()` is over."""
        if self._chooses_victims:
            self._scheduler.running = list(self._scheduler.running)
