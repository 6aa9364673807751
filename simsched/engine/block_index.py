"""What a router learns of the engines' caches: vLLM's KV events, some time after they were published.

An engine publishes after each step which blocks it has registered for prefix hits, taken as hits, or thrown
out (vllm/v1/core/sched/scheduler.py, `update_from_output`). The index holds, for each block's content, the
engines that are believed to have it, as llm-d's KV-cache indexer does: an engine that throws one of two
copies out is believed to have none, until it hits the other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from operator import itemgetter

from simsched.engine.arrival import Arrival

BlockEvent = tuple[bool, tuple[int, int]]
"""Stored (or hit), or thrown out; and the block's content (`prompt_blocks.Name`)."""


class BlockIndex:
    """Which replica has which blocks, as far as the router has heard."""

    def __init__(self, block_sizes: Sequence[int], delay: float) -> None:
        """
        Args:
            block_sizes: tokens of a block, of each replica.
            delay: seconds from an event to the router's knowing.
        """
        self._block_sizes = block_sizes
        self._delay = delay
        self._coming: deque[tuple[float, int, Sequence[BlockEvent]]] = deque()
        # tokens of a block -> content -> the replicas that have it
        self._holders: dict[int, dict[tuple[int, int], set[int]]] = {size: {} for size in block_sizes}

    def note(self, replica: int, now: float, events: Sequence[BlockEvent]) -> None:
        """A replica publishes events."""
        self._coming.append((now + self._delay, replica, events))

    def refresh(self, now: float) -> None:
        """Take in what has come by now."""
        coming = self._coming
        while coming and coming[0][0] <= now:
            _, replica, events = coming.popleft()
            holders = self._holders[self._block_sizes[replica]]
            for is_stored, content in events:
                if is_stored:
                    holders.setdefault(content, set()).add(replica)
                elif content in holders:
                    holders[content].discard(replica)
                    if not holders[content]:
                        del holders[content]

    def matched_by(self, request: Arrival) -> list[int]:
        """How many of a prompt's first tokens each replica has, in whole blocks."""
        matched = [0] * len(self._block_sizes)
        path = request.content
        for size, holders in self._holders.items():
            left: set[int] | None = None
            for block in range(request.num_prompt_tokens // size):
                at = bisect_left(path, (block + 1) * size, key=_end)
                if at == len(path):
                    break
                having = holders.get((path[at].node, block))
                left = having if left is None else left & (having or set())
                if not left:
                    break
                for replica in left:
                    matched[replica] = (block + 1) * size
        return matched


_end = itemgetter(1)
