"""Token budgets by slack: how much a step may compute before a request misses its next token's deadline."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from math import inf

from simsched.policies.engine_view import EngineView
from simsched.request import RequestView

_FEW = 16
_MANY = 1024


_Entry = tuple[float, int, float, float, RequestView]
"""When it was due as it was looked at last, a number of its own, when its first token was due, seconds a
token, and the request."""


class Slack:
    """Who decodes and is due when, without a look at each. A request's first token is due `slo_ttft` seconds
    after its arrival, and each further one `slo_tpot` later.

    The policy tells it of arrivals, preemptions and ends, and asks it before each step that may admit anyone.
    """

    def __init__(self, ttft: float, tpot: float) -> None:
        """
        Args:
            ttft: seconds, for requests that bring no `slo_ttft`.
            tpot: likewise for `slo_tpot`.
        """
        self._ttft = ttft
        self._tpot = tpot
        self._before: dict[str, RequestView] = {}  # those that do not decode as yet, as far as is known
        self._decoding: dict[str, RequestView] = {}
        # heaps of these, some stale: what each is due for later never comes sooner, so that the first entry
        # which is still right is the first of all
        self._due: list[_Entry] = []
        self._paces: list[tuple[float, str]] = []
        self._numbers = count()
        self._most = _MANY

    def waits(self, request: RequestView) -> None:
        """It has arrived, or was preempted."""
        self._decoding.pop(request.request_id, None)
        self._before[request.request_id] = request

    def ends(self, request: RequestView) -> None:
        """It is gone."""
        self._decoding.pop(request.request_id, None)
        self._before.pop(request.request_id, None)

    def look(self, engine: EngineView) -> int:
        """Note who decodes now, before what follows is asked; returns how many."""
        if len(self._before) <= max(_FEW, engine.num_running):
            for request in [each for each in self._before.values() if _decodes(each)]:
                self._starts(request)
        num = engine.num_decodes
        if len(self._decoding) != num:  # many wait: there are fewer who run
            for request in engine.running:
                if request.request_id not in self._decoding and _decodes(request):
                    self._starts(request)
        return num

    def _starts(self, request: RequestView) -> None:
        name, first, pace = request.request_id, request.slo_ttft, request.slo_tpot
        self._before.pop(name, None)
        self._decoding[name] = request
        first_due = request.arrival_time + (self._ttft if first is None else first)
        pace = self._tpot if pace is None else pace
        heappush(self._due, (first_due, next(self._numbers), first_due, pace, request))
        heappush(self._paces, (pace, name))
        if len(self._due) > self._most or len(self._paces) > self._most:
            right = (each for each in self._due if each[-1].request_id in self._decoding)
            self._due = list({each[-1].request_id: each for each in right}.values())
            self._paces = list({each for each in self._paces if each[1] in self._decoding})
            heapify(self._due)
            heapify(self._paces)
            self._most = 2 * len(self._decoding) + _MANY

    def first_due(self, now: float, enough: float) -> float:
        """When the first who decodes is due for its next token; inf if nobody does. Where that is `enough`
        seconds from `now`, it may be an earlier time that is so, too."""
        heap, decoding = self._due, self._decoding
        while heap:
            due, number, first_due, pace, request = heap[0]
            if request.request_id not in decoding:
                heappop(heap)
                continue
            if due - now >= enough:
                return due  # as looked at last; since then all can only have moved to later
            now_due = first_due + request.num_output_tokens * pace
            if now_due == due:
                return due
            heapreplace(heap, (now_due, number, first_due, pace, request))
        return inf

    def least_pace(self) -> float:
        """The fewest seconds a token of those who decode; inf if nobody does."""
        heap = self._paces
        while heap and heap[0][1] not in self._decoding:
            heappop(heap)
        return heap[0][0] if heap else inf


def _decodes(request: RequestView) -> bool:
    """Does it run, with nothing left to prefill?"""
    computed = request.num_computed_tokens
    return computed > 0 and request.num_prompt_tokens + request.num_output_tokens - computed <= 1


def tokens_within(engine: EngineView, slack: Slack, num: int, least_seconds: float) -> int:
    """The most tokens of a step that makes no decode late, or takes no longer than `least_seconds`, all
    decodes among them; more than the decodes by at least one, so that prefills go on.

    Found by bisection over the engine's cost model, as if what is prefilled were one chunk of a new
    prompt.

    Args:
        num: how many decode, which `slack` has looked at.
    """
    context = engine.decode_context
    least, most = 1, max(1, engine.max_num_batched_tokens - num)
    longest = engine.batch_time(num, context, most, 1, most * most / 2)
    if longest <= least_seconds:
        return num + most
    seconds = max(slack.first_due(engine.now, longest) - engine.now, least_seconds)
    if longest <= seconds:
        return num + most
    while least < most:
        tokens = (least + most + 1) // 2
        if engine.batch_time(num, context, tokens, 1, tokens * tokens / 2) <= seconds:
            least = tokens
        else:
            most = tokens - 1
    return num + least
