"""Our policies on vLLM V1, step by step: what happens before its `schedule()`. docs/engine.md states the
rules; comments name them between asterisks.

Each step asks for every request, so this is the reference for `asked_policy.py` and `policy_order.py`.
"""

from __future__ import annotations

from simsched.engine.config import ResolvedConfig
from simsched.engine.decisions import BudgetHooks, Budgets, Gate, ViewOfLists
from simsched.engine.preemption import Room, plan_preemptions
from simsched.engine.recorder import Recorder
from simsched.engine.session_service import SessionService
from simsched.engine.vllm_v1.kv_cache import KVCache
from simsched.engine.vllm_v1.stepping_request import Request
from simsched.policies.base import Moved, Policy, Priority, hooks_of, sees_queue


def discipline(policy: Policy) -> str:
    """Who orders the requests: vLLM's built-in `fcfs` or `priority`, or `policy` (*policy order*)."""
    if hooks_of(policy):
        return "policy"
    if policy.builtin == "fcfs":
        return "fcfs"
    if policy.builtin == "priority" and not policy.preemptive:
        return "priority"
    return "policy"


class PolicySteps:
    """The requests of an engine that steps, in a policy's order."""

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        self._policy = policy
        self._discipline = discipline(policy)
        self._config = config
        self._recorder = recorder
        self._kv = KVCache(config.num_gpu_blocks - 1, config.block_size, config.enable_prefix_caching)
        self._requests: dict[int, Request] = {}  # unfinished
        self._waiting: list[Request] = []  # the head first
        self._running: list[Request] = []
        self._preempted: list[int] = []  # since the last step in which something ran
        self._in_streak: set[int] = set()  # those that got a token in the step done last
        # for policies whose requests share state, or read the cache or their sessions
        self._moved: set[str] = set()
        self._sees_queue = sees_queue(policy)
        self._sessions = SessionService() if policy.reads_sessions else None
        # the policy's decisions beyond order
        hooks = hooks_of(policy)
        self.rejected: list[int] = []
        self._gate = Gate(policy) if "admit" in hooks else None
        self._held: list[Request] = []  # out of the queue until the step is formed
        self.engine_view = ViewOfLists(
            config.num_gpu_blocks - 1,
            config.block_size,
            config.max_running,
            config.token_budget,
            config.long_prefill_token_threshold,
            config.max_model_len,
            gate=self._gate,
            running=lambda: self._running,
            queue=lambda: self._waiting,
            held=lambda: self._held,
            place=_place,
            steps=lambda: recorder.num_steps,
            kv=self._kv,
        )
        self._chooses_victims = "victim" in hooks
        self._budget_hooks = BudgetHooks(policy, self.engine_view, config.enable_chunked_prefill)
        self._budgets = Budgets(config.token_budget, config.long_prefill_token_threshold)

    def _ask(self, request: Request, now: float) -> None:
        request.announce(self._policy.next_change(request, now), now)

    def _note(self, moved: Moved) -> None:
        """Others have moved: they are asked again before the next step."""
        if moved:
            self._moved.update(moved)

    def _look_up(self) -> None:
        """What would admission find in the cache?"""
        for request in self._waiting:
            hits = self._kv.lookup(request.number, request.num_tokens)
            cached = len(hits) * self._config.block_size
            if cached != request.cached:
                request.cached = cached
                self._moved.add(request.request_id)

    def _refresh(self, now: float) -> None:
        """Tell the policy which announced changes have come, and sort both queues by its priorities."""
        if self._policy.reads_cache:
            self._look_up()
        if self._sessions is not None:
            self._sessions.begin_step()
        if self._sees_queue and self._waiting:
            waiting = sorted(self._waiting, key=_number)
            self._note(self._policy.on_queue(waiting, now))
        for request in self._requests.values():
            if request.due(now):
                self._note(self._policy.on_change(request, now))
                self._ask(request, now)
        if self._moved:
            for request in self._requests.values():
                if request.request_id in self._moved:
                    self._ask(request, now)
            self._moved.clear()
        for request in self._requests.values():
            request.key = self._policy.priority(request, now)
        self._waiting.sort(key=_place)
        self._running.sort(key=_place)

    def _decide(self, now: float) -> None:
        """Ask the policy who is let in, and how many tokens the step may have (*gate*, *budgets*)."""
        view = self.engine_view
        view.begin_step(now)
        if self._gate is not None:
            queue = [request for request in self._waiting if not self._is_draining(request)]
            self._gate.decide(queue, view, now, lambda request: self._reject(request, now))
            self._held = [each for each in self._waiting if not self._gate.is_in(each.number)]
            self._waiting = [each for each in self._waiting if self._gate.is_in(each.number)]
        if self._budget_hooks.is_used:
            has_place = len(self._running) < self._config.max_running or self._policy.preemptive
            may_prefill = bool(self._waiting and has_place) or any(
                request.num_tokens - request.num_computed_tokens > 1 for request in self._running
            )
            self._budgets = self._budget_hooks.of_next_step(may_prefill)

    def _reject(self, request: Request, now: float) -> None:
        """The policy has turned it away: it is gone."""
        self._waiting.remove(request)
        self._kv.free(request.number, finished=True)
        del self._requests[request.number]
        self._in_streak.discard(request.number)
        self.rejected.append(request.number)
        assert self._gate is not None
        self._gate.forget(request.number)
        self._forget(request, now)

    def _forget(self, request: Request, now: float) -> None:
        """Tell the policy that it is gone."""
        if self._sessions is not None:
            self._note(self._sessions.finished(request, now))
        self._note(self._policy.on_finish(request, now))

    def _enqueue(self, request: Request) -> None:
        """Into the waiting queue (`policy`: it is sorted before each step)."""
        self._waiting.append(request)
        if self._discipline == "priority":
            self._waiting.sort(key=lambda r: (r.priority, r.arrival_time, r.request_id))

    def _make_room(self, now: float) -> list[Request]:
        """Preempt running requests for better waiting ones (*displacement*); returns the victims."""
        config = self._config
        limit, running = self._budgets.tokens, self._running
        outstanding = (request.num_tokens - request.num_computed_tokens for request in running)
        room = Room(
            slots=config.max_running - len(running),
            blocks=self._kv.num_free - sum(not r.num_computed_tokens % config.block_size for r in running),
            tokens=limit - sum(min(tokens, limit) for tokens in outstanding),
        )
        victims = plan_preemptions(
            ((request.key, request) for request in self._waiting if not self._is_draining(request)),
            [(request.key, request) for request in running if not self._is_ending(request)],
            room,
            config.block_size,
            chunked=config.enable_chunked_prefill,
        )
        for victim in victims:
            running.remove(victim)
            self._preempt(victim, now)
        return victims

    def _preempt(self, request: Request, now: float) -> None:
        """*Recompute*; the caller takes it out of `running` and puts it back in the queue."""
        self._kv.free(request.number, finished=False)
        request.num_computed_tokens = 0
        request.num_preemptions += 1
        self._preempted.append(request.number)
        self._recorder.preempted(request.number)
        if self._gate is not None:
            self._gate.departed(request.number)
        self._note(self._policy.on_preempt(request, now))
        self._ask(request, now)

    # what asynchronous scheduling changes (*one step ahead*); see stepping_async.py
    def _is_ending(self, request: Request) -> bool:
        """Is its last token on its way?"""
        return False

    def _is_draining(self, request: Request) -> bool:
        """Was it preempted while a step with it was under way, which is not over yet?"""
        return False


def _place(request: Request) -> tuple[Priority, float, int]:
    return request.key, request.arrival_time, request.number


def _number(request: Request) -> int:
    return request.number
