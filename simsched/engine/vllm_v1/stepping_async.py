"""Asynchronous scheduling of vLLM V1, *one step ahead*: step k + 1 is formed before step k's tokens.

Depth 2: while step k is under way, step k + 1 is formed, on placeholders for the tokens that k will bring. So
a finished request frees its slot and blocks a step later, and a request preempted while a step with it is
under way still gets that step's token, and waits until then. This is the reference, which steps.
Source: vllm/v1/core/sched/async_scheduler.py and the batch queue of vllm/v1/engine/core.py, vLLM 0.32.0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, cast

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.vllm_v1.stepping import VllmV1
from simsched.engine.vllm_v1.stepping_request import Request
from simsched.policies.base import Policy


class AsyncRequest(Request):
    """A request whose newest tokens may be on their way."""

    __slots__ = ("in_flight", "placeholders", "stale")

    def __init__(self, number: int, arrival: Arrival) -> None:
        super().__init__(number, arrival)
        self.in_flight = 0  # tokens computed in steps that are not over
        self.placeholders = 0  # output tokens that those steps bring
        self.stale = 0  # of `in_flight`, what was under way when it was preempted

    @property
    def num_known(self) -> int:
        """Prompt, and output that has come."""
        return self.num_prompt_tokens + self.num_output_tokens

    @property
    def num_tokens(self) -> int:
        """As the next step will find it: with the tokens on their way."""
        return self.num_known + self.placeholders


class _Step(NamedTuple):
    """A step that is formed and not over."""

    batch: Batch
    tokens: dict[AsyncRequest, int]
    sampled: list[AsyncRequest]
    formed_at: float


class AsyncVllmV1(VllmV1):
    """`schedule()` forms a step, `update()` ends the oldest one; two may be under way."""

    request_type = AsyncRequest

    def __init__(self, policy: Policy, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(policy, config, recorder)
        self._under_way: deque[_Step] = deque()
        self._ended = 0.0  # when the step done last ended

    def schedule(self, now: float) -> Batch | None:
        batch = super().schedule(now)
        if batch is None:
            return None
        tokens = cast("dict[AsyncRequest, int]", self._tokens)
        sampled = []
        for request, n in tokens.items():
            request.in_flight += n
            if request.num_computed_tokens == request.num_tokens:
                request.placeholders += 1
                sampled.append(request)
        self._under_way.append(_Step(batch, tokens, sampled, now))
        return batch

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        step = self._under_way.popleft()
        assert step.batch is batch
        # it began when the one before it ended, or when it was formed, if that was later
        self._start = max(self._ended, step.formed_at)
        self._ended = now
        recorder = self._recorder
        before = self._in_streak
        self._in_streak = {request.number for request in step.sampled}
        for number in before - self._in_streak:
            recorder.pause(number, self._start)
        recorder.steps(first, last, steps, len(before & self._in_streak))
        finished: list[int] = []
        sampled = set(step.sampled)
        for request, n in step.tokens.items():
            request.in_flight -= n
            is_stale = request.stale > 0
            if is_stale:
                request.stale -= n
            if request in sampled:
                self._take_token(request, is_stale, now, request.number not in before)
                if self._is_done(request):
                    finished.append(request.number)
                    self._leave(request, now)
        self._count_step(now, step.tokens, finished)
        return finished

    def _take_token(self, request: AsyncRequest, is_stale: bool, now: float, new_streak: bool) -> None:
        request.num_output_tokens += 1
        if new_streak:
            self._recorder.token(request.number, now)
        if is_stale:
            return  # preempted: it has no placeholders and no blocks
        request.placeholders -= 1
        self._kv.register(request.number, request.num_computed_tokens - request.placeholders)

    def _leave(self, request: AsyncRequest, now: float) -> None:
        self._kv.free(request.number, finished=True)
        (self._running if request in self._running else self._waiting).remove(request)
        self._in_streak.discard(request.number)
        self._recorder.finish(request.number, now)

    def _preempt(self, request: Request, now: float) -> None:
        assert isinstance(request, AsyncRequest)
        request.stale = request.in_flight
        request.placeholders = 0
        super()._preempt(request, now)

    def _is_ending(self, request: Request) -> bool:
        assert isinstance(request, AsyncRequest)
        coming = request.placeholders
        last = request.num_prompt_tokens + self._outputs[request.number]
        return coming > 0 and request.num_computed_tokens + 2 - coming >= last

    def _is_draining(self, request: Request) -> bool:
        assert isinstance(request, AsyncRequest)
        return request.stale > 0

    def _num_known(self, request: Request) -> int:
        assert isinstance(request, AsyncRequest)
        return request.num_known
