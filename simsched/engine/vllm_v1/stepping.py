"""vLLM V1's scheduler, step by step. docs/engine.md states its rules; comments name them between asterisks.
`policy_steps.py` has our policies on it.

This is the reference: each step looks at every request, as vLLM does. `leaping.py` gives the same
schedule for less work, and is tested against this. Source: vllm/v1/core/sched/scheduler.py of vLLM 0.24.0 to
0.33.0; what differs between them is in `vllm_versions.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from simsched.cost_model.base import StepFeatures
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.block_index import BlockEvent
from simsched.engine.config import ResolvedConfig
from simsched.engine.prompt_blocks import NamedBlocks
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_v1.policy_steps import PolicySteps
from simsched.engine.vllm_v1.prefill_cadence import PrefillCadence
from simsched.engine.vllm_v1.stepping_request import Request
from simsched.policies.base import Policy
from simsched.vllm_versions import rules_of


class VllmV1(PolicySteps):
    """The scheduler of vLLM V1, one step at a time."""

    swaps = False
    step_ends: list[float] | None = None
    request_type = Request

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(policy, config, recorder)
        self.counters: dict[str, int] = {}
        self._outputs: list[int] = []  # by number: how many tokens it will have
        self._rules = rules_of(config.vllm_version)
        self._max_model_len = config.max_model_len
        self._watermark = int(config.watermark * config.num_gpu_blocks)
        self._num_new = 0  # arrivals since the last step in which something ran
        self._tokens: dict[Request, int] = {}  # this step's batch
        self._start = 0.0
        self.cadence = PrefillCadence(config) if config.prefill_schedule_interval > 1 else None

    # -- the protocol ------------------------------------------------------------------------------------
    def add_request(self, arrival: Arrival, now: float) -> None:
        """It joins the waiting queue."""
        number = len(self._outputs)
        self._outputs.append(arrival.num_output_tokens)
        self._kv.arrived(number, arrival)
        request = self.request_type(number, arrival)
        request.time = now
        self._requests[number] = request
        self._num_new += 1
        if self._policy.reads_cache:
            request.cached = 0
        if self._policy.reads_prompts:
            config = self._config
            request.blocks = NamedBlocks(number, arrival, config.block_size, config.enable_prefix_caching)
        if self._sessions is not None:
            self._sessions.arrived(request)
        self._note(self._policy.on_arrival(request, now))
        self._ask(request, now)
        self._enqueue(request)

    def publish_blocks(self) -> None:
        """From now on, keep events of the cache until they are taken."""
        self._kv.events = []

    def take_block_events(self) -> list[BlockEvent]:
        """What has happened in the cache since they were taken last, in order."""
        events, self._kv.events = self._kv.events, []
        assert events is not None
        return events

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_free_blocks(self) -> int:
        return self._kv.num_free

    @property
    def num_blocks(self) -> int:
        return self._kv.num_blocks

    def has_unfinished(self) -> bool:
        return bool(self._requests)

    def schedule(self, now: float) -> Batch | None:
        """One call of vLLM's `schedule()`, after our policy has put the queues in order."""
        if self._discipline == "policy":
            self._refresh(now)
            self._decide(now)
            if self._policy.preemptive:
                victims = self._make_room(now)
                self._waiting = [request for request in self._waiting if request not in victims]
                self._held += victims
            if self._config.decodes_first:
                self._running.sort(key=lambda r: r.num_tokens - r.num_computed_tokens > 1)
        tokens = self._tokens = {}
        if self.cadence is not None:
            self.cadence.begin_step(self._running)
        threshold = self._threshold()
        budget, preempted = self._schedule_running(now, threshold)
        if not preempted:
            self._admit(now, threshold, budget)
        held, self._held = self._held, []
        for request in held:
            self._enqueue(request)
        if not tokens:
            if self.cadence is not None:
                self.cadence.end_step(tokens)
            return None
        P, N, S, K, Q = self._features()
        batch = Batch(
            features=StepFeatures(P, N, S, K, Q, len(self._requests) - len(tokens), 0, self._num_new),
            scheduled={request.number: n for request, n in tokens.items()},
            preempted=self._preempted,
            num_running=len(self._running),
            num_waiting=len(self._waiting),
            kv_blocks_used=self._kv.num_used,
        )
        self._preempted, self._num_new, self._start = [], 0, now
        for request, n in tokens.items():
            request.num_computed_tokens += n
        if self.cadence is not None:
            self.cadence.end_step(tokens)
        return batch

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """The reference never leaps."""
        return 1, inf

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        """Requests whose computed tokens have caught up get one token; the done ones free their blocks."""
        recorder, tokens = self._recorder, self._tokens
        sampled = [request for request in tokens if request.num_computed_tokens == request.num_tokens]
        before = self._in_streak
        self._in_streak = {request.number for request in sampled}
        for number in before - self._in_streak:
            recorder.pause(number, self._start)  # the end of the step before
        recorder.steps(first, last, steps, len(before & self._in_streak))
        finished: list[int] = []
        for request in sampled:
            request.num_output_tokens += 1
            if request.number not in before:
                recorder.token(request.number, now)
        for request in sampled:
            number = request.number
            if self._is_done(request):
                finished.append(number)
                self._kv.free(number, finished=True)
                self._running.remove(request)
                self._in_streak.discard(number)
                recorder.finish(number, now)
        self._count_step(now, tokens, finished)
        return finished

    def pass_over(self, start: float, duration: float) -> None:
        """While it has unfinished requests, a step of so many seconds goes by in which none of them runs."""
        for number in self._in_streak:
            self._recorder.pause(number, start)
        self._in_streak = set()
        self._recorder.step(duration, 0)

    def _count_step(self, now: float, ran: Mapping[Any, int], finished: Sequence[int]) -> None:
        """A step is over: who ran in it, who did not, and who is done."""
        if self._discipline != "policy":  # nobody asks
            for number in finished:
                del self._requests[number]
            return
        for request in list(self._requests.values()):
            changed = request.step_done(self._start, now, request in ran)
            if request.number in finished:
                del self._requests[request.number]
                self._forget(request, now)
                if self._gate is not None:
                    self._gate.departed(request.number)
            elif changed:
                self._ask(request, now)

    def _is_done(self, request: Request) -> bool:
        """Has it all its tokens (*end*)?"""
        known = self._num_known(request)
        return request.num_output_tokens >= self._outputs[request.number] or known >= self._max_model_len

    # -- vLLM's schedule() ---------------------------------------------------------------------------------
    def _threshold(self) -> int:
        """The most tokens that a request may have in this step (*chunk cap*)."""
        config = self._config
        tokens, threshold = self._budgets
        num_requests = len(self._running) + len(self._waiting)
        if not threshold or (num_requests == 1 and self._rules.lone_prefill_is_not_cut):
            return tokens
        if config.long_prefill_token_threshold_adaptive and num_requests:
            return max(threshold, config.max_num_batched_tokens // num_requests)
        return threshold

    def _schedule_running(self, now: float, threshold: int) -> tuple[int, bool]:
        """*Running first*: (tokens left in the budget, was anything preempted?)."""
        running, tokens, kv, cadence = self._running, self._tokens, self._kv, self.cadence
        budget = self._budgets.tokens
        preempted = False
        place = 0
        while place < len(running) and budget > 0:
            request = running[place]
            computed = request.num_computed_tokens
            n = min(request.num_tokens - computed, threshold, budget, self._max_model_len - computed - 1)
            if n <= 0 or self._is_ending(request):
                place += 1
                continue
            if cadence is not None and cadence.is_deferred(request.number):
                place += 1
                continue
            while request in running and kv.needed(request.number, computed + n) > kv.num_free:
                preempted = True
                victim = self._victim(place)
                if running.index(victim) < place:
                    place -= 1
                running.remove(victim)
                budget += tokens.pop(victim, 0)
                self._preempt(victim, now)
                self._requeue(victim)
            if request not in running:  # it has preempted itself
                if self._discipline == "priority" and self._rules.walk_survives_self_preemption:
                    continue
                break
            kv.allocate(request.number, computed + n, known=self._num_known(request))
            tokens[request] = n
            if cadence is not None:
                cadence.runs(request.number)
            budget -= n
            place += 1
        return budget, preempted

    def _victim(self, place: int) -> Request:
        """Who goes when blocks are short for the request at this place of the walk."""
        if self._chooses_victims:
            self.engine_view.freeze()
            victim = self._policy.victim(self._running[place:], self.engine_view)
            assert isinstance(victim, Request)
            return victim
        if self._discipline == "priority":
            return max(self._running, key=lambda r: (r.priority, r.arrival_time))
        return self._running[-1]

    def _requeue(self, victim: Request) -> None:
        if self._discipline == "fcfs":
            self._waiting.insert(0, victim)
        else:
            self._enqueue(victim)

    def _admit(self, now: float, threshold: int, budget: int) -> None:
        """From the *head of the line*, with what is left of the *token budget*."""
        kv, waiting, cadence = self._kv, self._waiting, self.cadence
        place = 0
        while place < len(waiting) and budget > 0 and len(self._running) < self._config.max_running:
            request = waiting[place]
            if self._is_draining(request):
                if cadence is not None:
                    cadence.skipped(request.number)
                place += 1
                continue
            number, known = request.number, request.num_tokens
            hits = kv.lookup(number, known)
            hit = len(hits) * self._config.block_size
            if cadence is not None and not cadence.may_admit(known, hit):
                break
            n = min(known - hit, threshold)
            if n > budget and not self._config.enable_chunked_prefill:
                break
            n = min(n, budget)
            fit = known if self._config.scheduler_reserve_full_isl else hit + n
            watermark = self._watermark if self._running else 0
            if kv.needed(number, fit, hits) + watermark > kv.num_free:
                break
            kv.allocate(number, hit + n, hits)
            request.num_computed_tokens = hit
            self._running.append(request)
            self._tokens[request] = n
            self._recorder.scheduled(number, now, hit)
            if cadence is not None:
                cadence.admitted(number, known, hit)
            budget -= n
            del waiting[place]
        if cadence is not None:
            cadence.end_admission(waiting)

    # what asynchronous scheduling changes (*one step ahead*), here and in policy_steps.py
    def _num_known(self, request: Request) -> int:
        """Its tokens without those on their way."""
        return request.num_tokens

    def _features(self) -> tuple[int, int, int, int, float]:
        P = N = S = K = 0
        Q = 0.0
        for request, n in self._tokens.items():
            computed = request.num_computed_tokens
            if n == 1 and request.num_prompt_tokens < request.num_tokens == computed + 1:
                N += 1
                K += computed + 1
            else:
                P += n
                S += 1
                Q += n * (computed + n / 2)
        return P, N, S, K, Q
