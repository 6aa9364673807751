"""The longest prompt and the longest output in a batch of the fork's: its sampler pads to them.

vLLM 0.4.1 copies every sequence's prompt and output into two tensors in every step, padded to the longest of
each, although only penalties would need them. On a batch of 256 with one answer of 3,000 tokens in it these
are a million numbers, made in Python.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable


class PaddingWidth:
    """Over the decoding requests, which join and leave one by one; entries of those that left are stale."""

    def __init__(self, prompt: list[int], lead_of: Callable[[int], int | None]) -> None:
        """`lead_of`: a decoding request's generated tokens minus the step counter, which do not change while
        it decodes; None of any other request."""
        self._prompt = prompt
        self._lead_of = lead_of
        self._prompts: list[tuple[int, int]] = []
        self._queued: set[int] = set()  # in `_prompts`
        self._leads: list[tuple[int, int]] = []

    def join(self, decoding: Iterable[int]) -> None:
        """These decode from now on."""
        for i in decoding:
            if i not in self._queued:
                self._queued.add(i)
                heapq.heappush(self._prompts, (-self._prompt[i], i))
            lead = self._lead_of(i)
            assert lead is not None
            heapq.heappush(self._leads, (-lead, i))

    def prompt(self) -> int:
        """Tokens of the longest prompt; 0 of no decoding request."""
        prompts = self._prompts
        while prompts and self._lead_of(prompts[0][1]) is None:
            self._queued.remove(heapq.heappop(prompts)[1])
        return -prompts[0][0] if prompts else 0

    def output(self, step: int) -> int:
        """Tokens of the longest output at this step counter; 0 of no decoding request."""
        leads = self._leads
        while leads and self._lead_of(leads[0][1]) != -leads[0][0]:
            heapq.heappop(leads)
        return step - leads[0][0] if leads else 0
