"""UniBoost (ICML 2026): first come, first served, with a head start for little work; no prediction."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from math import exp, expm1, inf, log, nextafter

from pydantic import Field
from pydantic.dataclasses import dataclass

from simsched.policies.base import NEVER, Change, Policy, register
from simsched.request import RequestView

_INTERVAL = 5.0  # seconds between two refits of gamma
_LEAST_SAMPLES = 200
_WINDOW = 1000  # latencies of the requests done last
_STEP = 0.3  # share of the way to its target that gamma goes
_SENSITIVITY = 4.0
_LOWEST, _HIGHEST = 1.0, 200.0


@register("uniboost")
@dataclass(eq=False)
class UniBoost(Policy):
    """By arrival - b(w), with the boost b(w) = ln(1 / (1 - exp(-gamma w))) / gamma of the work
    w = `time_per_token` * prompt tokens that are not in the cache (s). The boost falls with the work and to
    nothing, so nobody starves; gamma leads from shortest prompt first (0) to first come, first served
    (infinity).

    The formula, its defaults and the adaptive gamma are those of the authors' SGLang #35637, which orders
    the queue alone; hence not preemptive. The paper's MemGuard, which says when a running request may be
    evicted, is not in that code (`uniboost-guard` has it). With `adaptive`, gamma starts from the one given,
    and after every 5 s in which a request was done it goes 0.3 of the way to 1 + 199 exp(-4 (t99 / t95 -
    1)), where t are percentiles of the last 1,000 latencies, once there are 200: a heavy tail lowers it, a
    light one raises it. The bounds, 5 s, 200, 0.3 and 4 are that code's; the target's form and the window
    are ours.
    """

    preemptive: bool = False
    gamma: float = Field(default=10.0, gt=0, lt=inf)
    """Per second."""
    adaptive: bool = False
    time_per_token: float = Field(default=64e-6, gt=0, lt=inf)
    """Seconds of prefill a token."""

    reads_cache = True

    def __post_init__(self) -> None:
        self._done: deque[tuple[int, float]] = (
            deque()
        )  # not yet in the window: in which interval, latency (s)
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._gammas = [self.gamma]
        self._since = [0]  # from which interval of 5 s on each of them holds

    def boost(self, work: float, gamma: float) -> float:
        """Seconds of head start for this work (s)."""
        return -log(-expm1(-gamma * work)) / gamma

    def priority(self, request: RequestView, now: float) -> float:
        # of one that was preempted a part of its answer may be cached too
        work = self.time_per_token * max(1, request.num_prompt_tokens - request.num_cached_tokens)
        return request.arrival_time - self.boost(work, self._gamma(now) if self.adaptive else self.gamma)

    def next_change(self, request: RequestView, now: float) -> Change:
        if not self.adaptive:
            return NEVER
        # rounded down, so that it doesn't come after the refit
        return Change(after_time=max(0.0, nextafter((now // _INTERVAL + 1) * _INTERVAL - now, 0.0)))

    def changes_while_waiting(self) -> bool:
        return self.adaptive

    def on_finish(self, request: RequestView, now: float) -> None:
        if self.adaptive:
            self._done.append((int(now // _INTERVAL), now - request.arrival_time))

    def _gamma(self, now: float) -> float:
        """Gamma at this time, which may be an earlier one: from what was done before its interval began."""
        interval = int(now // _INTERVAL)
        while self._done and self._done[0][0] < interval:
            self._refit(self._done[0][0] + 1)
        return self._gammas[bisect_right(self._since, interval) - 1]

    def _refit(self, interval: int) -> None:
        """Let gamma take a step as this interval begins."""
        while self._done and self._done[0][0] < interval:
            self._window.append(self._done.popleft()[1])
        if len(self._window) < _LEAST_SAMPLES:
            return
        ordered = sorted(self._window)
        t95, t99 = (ordered[int(share * len(ordered))] for share in (0.95, 0.99))
        target = _LOWEST + (_HIGHEST - _LOWEST) * exp(-_SENSITIVITY * (t99 / t95 - 1.0))
        self._gammas.append(self._gammas[-1] + _STEP * (target - self._gammas[-1]))
        self._since.append(interval)
