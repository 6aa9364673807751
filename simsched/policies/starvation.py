"""Starvation control (Algorithm 1 of Fu et al., NeurIPS 2024) around any policy that orders requests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from simsched.policies.base import NEVER, Change, Decision, Moved, Policy, Priority, sees_queue
from simsched.policies.engine_view import EngineView
from simsched.request import RequestView


class _Promotion:
    """Counts of a request are taken from these marks on."""

    __slots__ = ("active", "fixed", "idle_mark", "run_mark")

    def __init__(self) -> None:
        self.active = False
        self.idle_mark = 0  # its steps_idle when it was last promoted, in the same idle spell
        self.run_mark = 0  # its steps_run then
        # its priorities (promoted, not), as long as the wrapped policy says that its own will not change
        self.fixed: tuple[Priority, Priority] | None = None

    def waited(self, steps_run: int, steps_idle: int) -> int:
        """Steps without running since it last ran or was promoted."""
        return steps_idle if steps_run > self.run_mark else steps_idle - self.idle_mark


class StarvationControl(Policy):
    """A request that has not run for `threshold` steps is promoted above all others that are not, until it
    has run for `period` steps."""

    def __init__(self, inner: Policy, threshold: int = 200, period: int = 10) -> None:
        super().__init__(preemptive=True)
        self.inner = inner
        self.threshold = threshold
        self.period = period
        self._minds_preemption = type(inner).on_preempt is not Policy.on_preempt
        self._promotions: dict[str, _Promotion] = {}
        self._own: dict[tuple[int | None, int | None], Change] = {}  # announced before, ours alone
        # what the wrapped policy needs is needed here too
        self.name = inner.name  # type: ignore[misc]
        self.reads = inner.reads  # type: ignore[misc]
        self.predictor = inner.predictor  # type: ignore[misc]
        self.predicts_itself = inner.predicts_itself  # type: ignore[misc]
        self.orders_by = inner.orders_by  # type: ignore[misc]
        self.asks_for = inner.asks_for  # type: ignore[misc]
        self.holds_the_line = inner.holds_the_line  # type: ignore[misc]
        self.reads_cache = inner.reads_cache  # type: ignore[misc]
        self.reads_prompts = inner.reads_prompts  # type: ignore[misc]
        self.reads_sessions = inner.reads_sessions  # type: ignore[misc]
        self.shares_state = inner.shares_state  # type: ignore[misc]
        moved = inner.reads_cache or inner.reads_sessions or inner.shares_state or sees_queue(inner)
        self._stays = not moved
        """Does a priority that never changes by itself stay as it is?"""

    def named_classes(self) -> Collection[str]:
        return self.inner.named_classes()

    def on_arrival(self, request: RequestView, now: float) -> Moved:
        self._promotions[request.request_id] = _Promotion()
        return self.inner.on_arrival(request, now)

    def priority(self, request: RequestView, now: float) -> Priority:
        promotion = self._promotions[request.request_id]
        if promotion.fixed is not None:
            return promotion.fixed[not promotion.active]
        return _ranked(1 - promotion.active, self.inner.priority(request, now))

    def next_change(self, request: RequestView, now: float) -> Change:
        promotion = self._promotions[request.request_id]
        inner = NEVER if promotion.fixed is not None else self.inner.next_change(request, now)
        return self._announce(promotion, inner, request, now)

    def _announce(self, promotion: _Promotion, inner: Change, request: RequestView, now: float) -> Change:
        """The earlier of a change of the wrapped policy and one of ours."""
        steps_run = request.steps_run
        run: int | None = None
        idle: int | None = None
        if promotion.active:
            run = promotion.run_mark + self.period - steps_run
        if steps_run > promotion.run_mark or not promotion.active:  # else it has its whole period yet
            idle = self.threshold - promotion.waited(steps_run, request.steps_idle)
        if inner is not NEVER:
            service, inner_run, inner_idle, time, while_running = inner
            return Change(service, _earlier(run, inner_run), _earlier(idle, inner_idle), time, while_running)
        if promotion.fixed is None and self._stays:
            priority = self.inner.priority(request, now)
            promotion.fixed = _ranked(0, priority), _ranked(1, priority)
        change = self._own.get((run, idle))
        if change is None:
            change = self._own[run, idle] = Change(after_steps_run=run, after_steps_idle=idle)
        return change

    def on_change(self, request: RequestView, now: float) -> Moved:
        promotion = self._promotions[request.request_id]
        self._promote(promotion, request.steps_run, request.steps_idle)
        return self.inner.on_change(request, now) if promotion.fixed is None else None

    def _promote(self, promotion: _Promotion, steps_run: int, idle: int) -> None:
        if promotion.waited(steps_run, idle) >= self.threshold:
            promotion.active = True
            promotion.idle_mark = idle
            promotion.run_mark = steps_run
        elif promotion.active and steps_run >= promotion.run_mark + self.period:
            promotion.active = False

    def advance(self, request: RequestView, now: float) -> tuple[Priority, Change]:
        promotion = self._promotions[request.request_id]
        self._promote(promotion, request.steps_run, request.steps_idle)
        if promotion.fixed is not None:
            change = self._announce(promotion, NEVER, request, now)
            return promotion.fixed[not promotion.active], change
        priority, inner = self.inner.advance(request, now)
        return _ranked(1 - promotion.active, priority), self._announce(promotion, inner, request, now)

    def on_preempt(self, request: RequestView, now: float) -> Moved:
        if not self._minds_preemption:
            return None
        self._promotions[request.request_id].fixed = None
        return self.inner.on_preempt(request, now)

    def on_queue(self, waiting: Sequence[RequestView], now: float) -> Moved:
        return self.inner.on_queue(waiting, now)

    def on_finish(self, request: RequestView, now: float) -> Moved:
        del self._promotions[request.request_id]
        return self.inner.on_finish(request, now)

    # -- decisions beyond order are those of the wrapped policy -------------------------------------------
    def admit(self, request: RequestView, engine: EngineView) -> Decision:
        return self.inner.admit(request, engine)

    def victim(self, candidates: Sequence[RequestView], engine: EngineView) -> RequestView:
        return self.inner.victim(candidates, engine)

    def token_budget(self, engine: EngineView) -> int:
        return self.inner.token_budget(engine)

    def chunk(self, engine: EngineView) -> int:
        return self.inner.chunk(engine)


def _ranked(rank: int, inner: Priority) -> Priority:
    return (rank, *inner) if isinstance(inner, tuple) else (rank, inner)


def _earlier(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
