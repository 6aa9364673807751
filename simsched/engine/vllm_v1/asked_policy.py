"""Requests whose priorities a policy computes: when it is asked, and who moves then.

It is asked for a priority when a request arrives, when its own announcement says that it may differ, and when
something else has moved it, not in every step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import inf

from simsched.engine.agenda import NO_LIMIT
from simsched.engine.arrival import Arrival
from simsched.engine.prompt_blocks import NamedBlocks
from simsched.engine.request_status import WAITING
from simsched.engine.session_service import Session, SessionService
from simsched.engine.vllm_v1.changes import Changes
from simsched.engine.vllm_v1.discipline import QueueDiscipline
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.queues import RunningByPriority, WaitingQueue
from simsched.engine.vllm_v1.state import LeapingState
from simsched.policies.base import Change, Policy, Priority, sees_queue
from simsched.policies.user_policy import PolicyError, expected_instead


class AskedPolicy(QueueDiscipline):
    """A policy, the waiting requests in their queue, and the running ones in order while that is of use."""

    def __init__(self, engine: LeapingState, policy: Policy) -> None:
        self.by_admission = False
        self._engine = engine
        self._policy = policy
        self._preemptive = policy.preemptive
        self._asks_waiting = policy.changes_while_waiting()
        hooks = type(policy).on_arrival, type(policy).on_finish
        self.hears_of_all = hooks != (Policy.on_arrival, Policy.on_finish) or policy.reads_sessions
        """Is the policy told of who comes and goes? Else it need not know of those that an uncontended run
        serves from beginning to end."""
        self._queue = WaitingQueue()
        self._to_admit: list[LeapRequest] = []  # those there is room for, out of the queue, the best last
        self._victims_until_scheduled: list[LeapRequest] = []  # they are out of the queue
        self._order: RunningByPriority | None = None  # while it is of use
        self._last_used = 0  # step counter when it was of use
        cls = type(policy)
        self._is_told = cls.on_change is not Policy.on_change or cls.advance is not Policy.advance
        """Does it do anything when a change has come?"""
        self._changes = Changes(engine.clock)
        self._changes.may_ask_more = not self._is_told
        self._checks = policy.is_watched
        self._now = 0.0  # when the step begins that is being formed
        self._reads_cache = policy.reads_cache
        self._reads_prompts = policy.reads_prompts
        self._sees_queue = sees_queue(policy)
        self._shares = policy.shares_state or policy.reads_sessions
        told = cls.on_change is not Policy.on_change or (self._shares and self._reads_cache)
        self._waits_silently = not (policy.preemptive or told)
        """Are changes of those who wait of no concern while nobody can be admitted?"""
        self._keeps_time = policy.shares_state and self._is_told
        """Must changes come when they are due? Else those of running requests may be put off."""
        self._asks_anew = self._shares and not self._is_told
        """Are running requests asked as of now when their order is needed, since nothing has to be made up
        for?"""
        self.looks_back = not self._asks_anew
        """Is the clock turned back to make up for changes?"""
        self._unasked: dict[int, float] = {}
        """By number, who began in an uncontended run and has not been asked: the end of its first step."""
        self._by_id: dict[str, LeapRequest] = {}  # where requests share what the policy remembers
        self.moved: set[str] = set()
        """Ids of those who are to be asked again."""
        self._sessions = SessionService() if policy.reads_sessions else None
        self.grown: dict[Session, None] = {} if self._sessions is None else self._sessions.grown
        """Sessions that have got more, which shows as the next step begins."""
        if self._keeps_time:
            self._changes.on_time = True
            self._order = RunningByPriority(engine.running)
        self.decides = False
        """Does the policy decide more than the order (`leaping_decisions.py`)?"""

    def request(self, number: int, arrival: Arrival, now: float) -> LeapRequest:
        request = LeapRequest(number, arrival)
        request.attach_view(self._engine.clock, arrival)
        if self._reads_cache:
            request.cached = 0
        if self._reads_prompts:
            engine = self._engine
            request.blocks = NamedBlocks(number, arrival, engine.block_size, engine.caching)
        if self._shares:
            self._by_id[request.request_id] = request
            if self._sessions is not None:
                self._sessions.arrived(request)
        moved = self._policy.on_arrival(request, now)
        if moved:
            self.moved.update(moved)
        return request

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        request = self.request(number, arrival, now)
        if self._asks_waiting:
            self._ask_waiting(request, now)
        self.requeue(request, now)

    def _ask_waiting(self, request: LeapRequest, now: float) -> None:
        """When may its priority next differ?"""
        change = self._policy.next_change(request, now)
        self._changes.announce_waiting(request, change, self._engine.clock.done, now)

    def requeue(self, request: LeapRequest, now: float) -> None:
        self._queue.push(request, self._policy.priority(request, now))

    def remove(self, request: LeapRequest) -> None:
        self._queue.remove(request)

    def _check(self, request: LeapRequest) -> None:
        """Has the policy kept its promise of when this priority may change?

        Raises:
            PolicyError: it has not.
        """
        now = self._now
        priority = self._policy.priority(request, now)
        if priority != request.key and not self.moved:
            raise PolicyError(
                f"policy {self._policy.name}: priority of request {request.request_id} is {priority} at "
                f"{now:g} s and was {request.key}, which next_change had promised to stay; expected "
                f"{expected_instead(self._policy)}"
            )

    def limit(self) -> tuple[int, float]:
        """The step counter and the time at which the next announced changes come."""
        return (NO_LIMIT, inf) if self._is_of_no_concern() else self._changes.limit()

    def _is_of_no_concern(self) -> bool:
        """Is the order of those who wait, since nobody can be admitted before someone is done?"""
        return self._waits_silently and len(self._engine.running) >= self._engine.max_running

    def _look_up(self, now: float) -> None:
        """What would admission find in the cache, and what does the policy say of the queue? Whose place that
        moves is asked again."""
        engine, waiting = self._engine, self._all_waiting()
        if self._reads_cache:
            engine.catch_up_cache()
            for request in waiting:
                cached = engine.cached_tokens(request)
                if cached != request.cached:
                    request.cached = cached
                    self._by_id[request.request_id] = request
                    self.moved.add(request.request_id)
        if self._sees_queue:
            waiting.sort(key=_number)
            moved = self._policy.on_queue(waiting, now)
            if moved:
                self.moved.update(moved)
                for request in waiting:
                    if request.request_id in self.moved:
                        self._by_id[request.request_id] = request

    def _all_waiting(self) -> list[LeapRequest]:
        return list(self._queue)

    def _ask_moved(self, now: float) -> None:
        """Something else has moved these requests."""
        steps, policy, changes = self._engine.clock.done, self._policy, self._changes
        requests = self._those_moved()
        self.moved.clear()
        for request in requests:
            in_queue = request.where == WAITING
            if request.ran and not in_queue and self._order is None:
                self._put_off_anew(request, now)
                continue
            change = policy.next_change(request, now)
            if request.ran:
                changes.announce_running(request, change, steps, now, steps + 1, in_queue=in_queue)
            elif self._asks_waiting:
                changes.announce_waiting(request, change, steps, now)
            key = policy.priority(request, now)
            if key != request.key:
                self._move(request, key)
        if not self._shares:
            self._by_id.clear()

    def step_begins(self, now: float) -> None:
        """A step of an uncontended run is to be formed."""
        if self._sessions is not None:
            self._begin_sessions(self._sessions)
        if self.moved:
            if not self._asks_anew:
                for request in self._those_moved():
                    if request.ran:  # else it is new, and asked as its first step is over
                        self._put_off_anew(request, now)
            self.moved.clear()

    def _those_moved(self) -> list[LeapRequest]:
        """In order of arrival."""
        return sorted([self._by_id[each] for each in self.moved if each in self._by_id], key=_number)

    def _put_off_anew(self, request: LeapRequest, now: float) -> None:
        """Something else has moved a running request while its place is of no concern."""
        if not self._asks_anew:
            self._catch_up(request)
            change, steps = self._policy.next_change(request, now), self._engine.clock.done
            self._changes.announce_running(request, change, steps, now, steps + 1)

    def _begin_sessions(self, sessions: SessionService) -> None:
        """What the steps before have added to sessions shows from now on."""
        if self.moved and self._order is None and self._is_told:
            # changes that were put off are made up for with the sessions as they were
            before = self._engine.clock.done - 1
            for request in self._those_moved():
                if request.where != WAITING:
                    self._catch_up(request, before)
        sessions.begin_step()

    def _ask_always(self, now: float) -> None:
        """Who waits and may move in any step is asked, where it matters."""
        always = self._changes.always()
        if not always or self._is_of_no_concern():
            return
        steps, changes, policy = self._engine.clock.done, self._changes, self._policy
        next_change, priority = policy.next_change, policy.priority
        has_moved = False
        for request in always:
            change = next_change(request, now)
            if change.after_time != 0.0 and change.after_steps_idle != 1:
                changes.announce_waiting(request, change, steps, now)
            key = priority(request, now)
            if key == request.key:
                continue
            if self.decides or request.where != WAITING:
                self._move(request, key)
            else:
                request.key = key
                has_moved = True
        if has_moved:
            self._queue.renew()

    def _change(self, due: Sequence[LeapRequest], now: float) -> None:
        """The announced changes of these requests have come."""
        steps, changes = self._engine.clock.done, self._changes
        advance = self._advance_and_note if self._shares else self._policy.advance
        for request in due:
            key, change = advance(request, now)
            if request.ran:
                changes.announce_running(request, change, steps, now, steps + 1)
            else:
                changes.announce_waiting(request, change, steps, now)
            if key != request.key:
                self._move(request, key)

    def _advance_and_note(self, request: LeapRequest, now: float) -> tuple[Priority, Change]:
        """`Policy.advance`, and who else has moved."""
        policy = self._policy
        self.moved.update(policy.on_change(request, now) or ())
        return policy.priority(request, now), policy.next_change(request, now)

    @abstractmethod
    def _catch_up(self, request: LeapRequest, until: int = NO_LIMIT) -> None:
        """Make up for the changes of a running request that have been put off, up to this step counter."""

    def _move(self, request: LeapRequest, key: Priority) -> None:
        """This is its priority now."""
        if request.where == WAITING:
            self._queue.push(request, key)
            return
        request.key = key
        if self._order is not None and self._preemptive:
            self._order.push(request)


def _number(request: LeapRequest) -> int:
    return request.number
