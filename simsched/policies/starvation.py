"""Starvation control (Algorithm 1 of Fu et al., NeurIPS 2024) around any policy that orders requests."""

from __future__ import annotations

from simsched.policies.base import Change, Policy, Priority
from simsched.request import RequestView


class _Promotion:
    """Counts of a request are taken from these marks on."""

    __slots__ = ("active", "idle_mark", "run_mark")

    def __init__(self) -> None:
        self.active = False
        self.idle_mark = 0  # its steps_idle when it was last promoted, in the same idle spell
        self.run_mark = 0  # its steps_run then


class StarvationControl(Policy):
    """A request that has not run for `threshold` steps is promoted above all others that are not, until it
    has run for `period` steps."""

    def __init__(self, inner: Policy, threshold: int = 200, period: int = 10) -> None:
        super().__init__(preemptive=True)
        self.inner = inner
        self.threshold = threshold
        self.period = period
        self._promotions: dict[str, _Promotion] = {}
        # what the wrapped policy needs is needed here too
        self.name = inner.name  # type: ignore[misc]
        self.reads = inner.reads  # type: ignore[misc]
        self.predictor = inner.predictor  # type: ignore[misc]

    def on_arrival(self, request: RequestView, now: float) -> None:
        self._promotions[request.request_id] = _Promotion()
        self.inner.on_arrival(request, now)

    def priority(self, request: RequestView, now: float) -> Priority:
        inner = self.inner.priority(request, now)
        rank = 0 if self._promotions[request.request_id].active else 1
        return (rank, *inner) if isinstance(inner, tuple) else (rank, inner)

    def next_change(self, request: RequestView, now: float) -> Change:
        promotion = self._promotions[request.request_id]
        service, run, idle, time, while_running = self.inner.next_change(request, now)
        steps_run = request.steps_run
        if steps_run > promotion.run_mark:
            idle = _earlier(idle, self.threshold - request.steps_idle)
        elif not promotion.active:  # else it has its whole period yet
            idle = _earlier(idle, self.threshold - request.steps_idle + promotion.idle_mark)
        if promotion.active:
            run = _earlier(run, promotion.run_mark + self.period - steps_run)
        return Change(service, run, idle, time, while_running)

    def on_change(self, request: RequestView, now: float) -> None:
        promotion = self._promotions[request.request_id]
        steps_run, idle = request.steps_run, request.steps_idle
        # steps without running since it last ran or was promoted
        if idle - (0 if steps_run > promotion.run_mark else promotion.idle_mark) >= self.threshold:
            promotion.active = True
            promotion.idle_mark = idle
            promotion.run_mark = steps_run
        elif promotion.active and steps_run >= promotion.run_mark + self.period:
            promotion.active = False
        self.inner.on_change(request, now)

    def on_preempt(self, request: RequestView, now: float) -> None:
        self.inner.on_preempt(request, now)

    def on_finish(self, request: RequestView, now: float) -> None:
        del self._promotions[request.request_id]
        self.inner.on_finish(request, now)


def _earlier(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)
