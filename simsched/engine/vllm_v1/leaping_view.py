"""The leaping engine as a policy sees it that decides more than an order.

Not compiled: it shares a class with interpreted engines."""

from __future__ import annotations

from typing import Protocol

from simsched.engine.base import CannotLeap
from simsched.engine.config import ResolvedConfig
from simsched.engine.engine_view import ViewOfEngine
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.state import LeapingState
from simsched.policies.base import Priority
from simsched.request import left_to_compute


class Order(Protocol):
    """Who waits where, and who runs in which order."""

    @property
    def admits(self) -> bool: ...
    @property
    def num_queued(self) -> int: ...
    @property
    def num_outside(self) -> int: ...
    def queued(self) -> list[LeapRequest]: ...
    def kept_out(self) -> list[LeapRequest]: ...
    def running_in_order(self, now: float) -> list[LeapRequest]: ...


class LeapingView(ViewOfEngine):
    """The leaping engine as its policy sees it."""

    def __init__(self, engine: LeapingState, order: Order, config: ResolvedConfig) -> None:
        super().__init__(
            engine.num_blocks,
            config.block_size,
            config.max_running,
            config.token_budget,
            config.long_prefill_token_threshold,
            config.max_model_len,
        )
        self._engine = engine
        self._order = order
        self._walk: list[LeapRequest] | None = None  # who runs, while the step is formed
        self.running_in_order: list[LeapRequest] | None = None
        """If it has been asked for, before the step is formed."""
        self._frozen: tuple[list[LeapRequest], list[LeapRequest]] = ([], [])

    def begin_walk(self, running: list[LeapRequest]) -> None:
        """Blocks have run short in this step: the lists of waiting requests stay as they are."""
        if self._walk is None:
            self._frozen = self._lists()
            self._walk = running

    def end_walk(self) -> None:
        """The step is formed."""
        self._walk = None

    def _lists(self) -> tuple[list[LeapRequest], list[LeapRequest]]:
        if self._walk is not None:
            return self._frozen
        queued, others = self._order.queued(), self._order.kept_out()
        if self._order.admits:
            return queued, sorted(others, key=_place)
        return [], sorted(queued + others, key=_place)

    @property
    def running(self) -> list[LeapRequest]:
        if self._walk is not None:
            return list(self._walk)
        if self.running_in_order is None:
            self.running_in_order = self._order.running_in_order(self.now)
        return self.running_in_order

    @property
    def let_in(self) -> list[LeapRequest]:
        return self._lists()[0]

    @property
    def waiting(self) -> list[LeapRequest]:
        return self._lists()[1]

    @property
    def num_running(self) -> int:
        return len(self._engine.running if self._walk is None else self._walk)

    @property
    def num_let_in(self) -> int:
        if self._walk is not None:
            return len(self._frozen[0])
        return self._order.num_queued if self._order.admits else 0

    @property
    def num_waiting(self) -> int:
        if self._walk is not None:
            return len(self._frozen[1])
        return self._order.num_outside if self._order.admits else self._order.num_queued

    @property
    def num_decodes(self) -> int:
        if self._walk is not None:
            return super().num_decodes
        return self._engine.num_decoding + len(self._other_decodes())

    @property
    def decode_context(self) -> int:
        if self._walk is not None:
            return super().decode_context
        others = sum([each.computed + 1 for each in self._other_decodes()])
        return self._engine.decode_context + others

    def _other_decodes(self) -> list[LeapRequest]:
        """Those left out of the last step, and those whose last token is on its way."""
        engine = self._engine
        if not engine.partials and not engine.ending:
            return []
        others = [*engine.partials.values(), *engine.ending.values()]
        return [each for each in others if left_to_compute(each) <= 1]

    @property
    def num_steps(self) -> int:
        return self._engine.recorder.num_steps

    @property
    def num_free_blocks(self) -> int:
        return self._engine.free

    @property
    def num_evictable_blocks(self) -> int:
        raise CannotLeap("blocks are counted, not looked at")


def _place(request: LeapRequest) -> tuple[Priority, int]:
    return request.key, request.number
