"""*Prefill cadence*: with `prefill_schedule_interval` N > 1 prompts are computed in every N-th step only, and
the steps between are of decodes alone.

Source: `defer_prefills`, `prefill_capacity_bound` and `last_prefill_step` in vllm/v1/core/sched/scheduler.py
of vLLM 0.24.0 to 0.33.0. Ranks of a mixture-of-experts model are told which steps are throttled
(`is_throttled`, from a count of steps that they share). An engine by itself counts, from 0.33 on, from its
last step with a prefill.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from simsched.engine.config import ResolvedConfig
from simsched.engine.vllm_v1.stepping_request import Request
from simsched.vllm_versions import rules_of


class PrefillCadence:
    """Which prefills a step puts off."""

    def __init__(self, config: ResolvedConfig) -> None:
        rules = rules_of(config.vllm_version)
        counts_itself = rules.engine_has_prefill_cadence and not config.moe_data_parallel
        self.is_throttled = False
        """Is the next step one in which the ranks put prefills off? Set from outside."""
        self.defers = False
        """Does this step put prefills off?"""
        self._interval = config.prefill_schedule_interval if counts_itself else 1
        self._serves_cached = rules.cached_prompts_are_not_deferred
        self._partial: set[int] = set()  # numbers of those whose last step did not reach their last token
        self._skipped: set[int] = (
            set()
        )  # waiting, and passed over once: they are not what admission is short of
        self._is_bound = False  # the last step that might admit anybody left somebody waiting
        self._carries = False  # this step computes a prefill
        self._num_steps = 0  # in which something ran
        self._last_prefill = -self._interval  # `_num_steps` at the end of the last of them with a prefill

    def begin_step(self, running: Iterable[Request]) -> None:
        """A step is formed; so these run before it."""
        self._carries = False
        throttled = self.is_throttled or self._num_steps + 1 - self._last_prefill < self._interval
        self.defers = (
            throttled
            and not self._is_bound
            and any(request.number not in self._partial for request in running)
        )

    def is_deferred(self, number: int) -> bool:
        """Does this running request wait with its prefill?"""
        return self.defers and number in self._partial

    def runs(self, number: int) -> None:
        """This running request is in the batch."""
        self._carries = self._carries or number in self._partial

    def may_admit(self, num_tokens: int, hit: int) -> bool:
        """May a waiting request with so many tokens, so many of them cached, come in?"""
        return not self.defers or (self._serves_cached and hit >= num_tokens - 1)

    def skipped(self, number: int) -> None:
        """This waiting request was passed over, for one of its tokens is on its way."""
        self._skipped.add(number)

    def admitted(self, number: int, num_tokens: int, hit: int) -> None:
        """It was let in."""
        self._skipped.discard(number)
        self._carries = self._carries or hit < num_tokens - 1

    def end_admission(self, waiting: Collection[Request]) -> None:
        """Nobody else is let in in this step."""
        if not self.defers:
            self._is_bound = any(request.number not in self._skipped for request in waiting)

    def end_step(self, tokens: Mapping[Any, int]) -> None:
        """The batch is formed, and its tokens count as computed."""
        for request in tokens:
            if request.num_computed_tokens < request.num_tokens:
                self._partial.add(request.number)
            else:
                self._partial.discard(request.number)
        if tokens:
            self._num_steps += 1
        if self._carries:
            self._last_prefill = self._num_steps
