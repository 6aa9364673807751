"""A policy's decisions beyond order, for the reference engine and for real vLLM alike: who is let in, and how
many tokens the next step may have. `vllm_v1/leaping_decisions.py` does the same from event to event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from simsched.engine.engine_view import ViewOfEngine
from simsched.errors import InputError
from simsched.policies.base import ADMIT, REJECT, Change, Policy, hooks_of
from simsched.request import RequestView


class NumberedView(RequestView, Protocol):
    """A request view with its place in the order of arrival."""

    @property
    def number(self) -> int: ...


View = TypeVar("View", bound=NumberedView)


class _Held(NamedTuple):
    """An answer of `admit`, and what its clocks said then."""

    change: Change
    time: float
    steps_idle: int
    departures: int


class Gate:
    """Who may be served, by `Policy.admit`."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._holds_the_line = policy.holds_the_line
        self._let_in: set[int] = set()  # by number: let in, and not preempted since
        self._held: dict[int, _Held] = {}
        self._departures = 0

    def is_in(self, number: int) -> bool:
        """Has it been let in?"""
        return number in self._let_in

    def departed(self, number: int) -> None:
        """It has finished, or lost its place: there may be room for others, so all are asked about again."""
        self._departures += 1
        self.forget(number)

    def forget(self, number: int) -> None:
        """It is to be asked about anew, or never again."""
        self._let_in.discard(number)
        self._held.pop(number, None)

    def decide(
        self, waiting: Sequence[View], engine: ViewOfEngine, now: float, reject: Callable[[View], None]
    ) -> None:
        """Ask about those who wait outside and may be asked, in order.

        Args:
            waiting: all that wait, in order.
            engine: what the policy sees.
            now: seconds on the clock.
            reject: called at once with each that is turned away.
        """
        first_held: View | None = None
        for request in waiting:
            number = request.number
            if number in self._let_in:
                continue
            if self._may_be_asked(request, now):
                answer = self._policy.admit(request, engine)
                if answer == ADMIT:
                    self.forget(number)
                    self._let_in.add(number)
                    continue
                if answer == REJECT:
                    reject(request)
                    continue
                self._held[number] = _Held(answer[0], now, request.steps_idle, self._departures)
            first_held = first_held or request
            if self._holds_the_line:
                break
        if first_held is not None and not engine.num_running and not engine.num_let_in:
            self.forget(first_held.number)
            self._let_in.add(first_held.number)

    def _may_be_asked(self, request: NumberedView, now: float) -> bool:
        held = self._held.get(request.number)
        if held is None or held.departures != self._departures:
            return True
        change = held.change
        return (change.after_time is not None and now >= held.time + change.after_time) or (
            change.after_steps_idle is not None
            and request.steps_idle >= held.steps_idle + change.after_steps_idle
        )


class Blocks(Protocol):
    """An account of KV blocks."""

    @property
    def num_free(self) -> int: ...
    @property
    def num_evictable(self) -> int: ...


class ViewOfLists(ViewOfEngine):
    """An engine that keeps its requests in lists, as its policy sees it."""

    def __init__(
        self,
        *options: int,
        gate: Gate | None,
        running: Callable[[], Sequence[Any]],
        queue: Callable[[], Sequence[Any]],
        held: Callable[[], Sequence[Any]],
        place: Callable[[Any], Any],
        steps: Callable[[], int],
        kv: Blocks,
    ) -> None:
        """
        Args:
            options: of `ViewOfEngine`.
            gate: who is let in; None: the policy doesn't say.
            running: the views of those that run, in order.
            queue: of those that wait where the engine looks.
            held: of those that are kept from it.
            place: what a view is sorted by.
            steps: how many are over.
            kv: its KV blocks.
        """
        super().__init__(*options)
        self._gate = gate
        self._running = running
        self._queue = queue
        self._held = held
        self._place = place
        self._steps = steps
        self._kv = kv
        self._frozen: tuple[list[Any], list[Any]] | None = None

    def begin_step(self, now: float) -> None:
        """The next step is to be formed."""
        self.now = now
        self._frozen = None

    def freeze(self) -> None:
        """The lists of waiting requests stay as they are until the step is formed."""
        if self._frozen is None:
            self._frozen = self.let_in, self.waiting

    @property
    def running(self) -> list[Any]:
        return list(self._running())

    @property
    def let_in(self) -> list[Any]:
        if self._frozen is not None:
            return self._frozen[0]
        gate = self._gate
        return [] if gate is None else [each for each in self._queue() if gate.is_in(each.number)]

    @property
    def waiting(self) -> list[Any]:
        if self._frozen is not None:
            return self._frozen[1]
        gate = self._gate
        outside = [each for each in self._queue() if gate is None or not gate.is_in(each.number)]
        return sorted([*outside, *self._held()], key=self._place)

    @property
    def num_running(self) -> int:
        return len(self._running())

    @property
    def num_let_in(self) -> int:
        return len(self.let_in)

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def num_steps(self) -> int:
        return self._steps()

    @property
    def num_free_blocks(self) -> int:
        return self._kv.num_free

    @property
    def num_evictable_blocks(self) -> int:
        return self._kv.num_evictable


class Budgets(NamedTuple):
    """Tokens of the next step, and of each request in it (0: no cap)."""

    tokens: int
    chunk: int


class BudgetHooks:
    """`Policy.token_budget` and `Policy.chunk`."""

    def __init__(self, policy: Policy, engine: ViewOfEngine, chunked: bool) -> None:
        """`chunked`: does the engine chunk prefills?

        Raises:
            InputError: it doesn't, and the policy sets one of the two.
        """
        hooks = hooks_of(policy)
        self._policy = policy
        self._engine = engine
        self._sets_tokens = "token_budget" in hooks
        self._sets_chunk = "chunk" in hooks
        self._own = Budgets(engine.max_num_batched_tokens, engine.long_prefill_token_threshold)
        self.is_used = self._sets_tokens or self._sets_chunk
        """Does the policy set any?"""
        if self.is_used and not chunked:
            hook = "token_budget" if self._sets_tokens else "chunk"
            raise InputError(f"policy {policy.name}: {hook} needs chunked prefill, which is off here")

    def of_next_step(self, may_prefill: bool) -> Budgets:
        """What the policy says; the engine's own in a step that can't hold more than decodes."""
        if not (self.is_used and may_prefill):
            return self._own
        tokens, chunk = self._own
        if self._sets_tokens:
            tokens = max(1, min(self._policy.token_budget(self._engine), tokens))
        if self._sets_chunk:
            chunk = max(0, self._policy.chunk(self._engine))
        return Budgets(tokens, chunk)
