"""What a router believes is cached where: it remembers which prompts it sent to which replica.

Nothing tells it what an engine has really thrown out, so it forgets by itself: the least recently used first.
Blocks stand for the characters or tokens that real routers compare.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class PrefixTree:
    """The prefixes sent to each replica. A block's id stands for all blocks before it too, so a tree of
    prefixes is a flat table, and a prompt's path through it is the prompt's list of ids.

    As a prompt touches its whole path, no block is ever older than one behind it: throwing out the oldest
    first takes leaves first.
    """

    def __init__(self, num_replicas: int) -> None:
        # per replica: block or tail -> its tokens and when it was last used, the least recently used first
        self._held: list[OrderedDict[object, tuple[int, float]]] = [
            OrderedDict() for _ in range(num_replicas)
        ]
        self._holders: dict[int, dict[int, None]] = {}
        self._remembered: dict[int, int] = {}
        self.tokens = [0] * num_replicas
        """Tokens of the prompts remembered for each replica, a shared prefix counted once."""

    def insert(
        self, prefix: Sequence[int], block_size: int, num_prompt_tokens: int, replica: int, now: float
    ) -> None:
        """A prompt goes to this replica: its shared blocks, then a tail that no other prompt has."""
        held = self._held[replica]
        tail = num_prompt_tokens - len(prefix) * block_size
        if tail > 0:
            held[object()] = tail, now
            self.tokens[replica] += tail
        for block in reversed(prefix):  # the path's beginning is the most recently used
            if block in held:
                held[block] = block_size, now
                held.move_to_end(block)
                continue
            held[block] = block_size, now
            self.tokens[replica] += block_size
            self._holders.setdefault(block, {})[replica] = None
            self._remembered.setdefault(block, replica)

    def match(self, prefix: Sequence[int], now: float) -> tuple[int, int | None]:
        """How many blocks of this prompt are held somewhere, and which replica holds the last of them: the
        one that had it first, as long as it has it."""
        matched, deepest = 0, None
        for block in prefix:
            if block not in self._holders:
                break
            matched, deepest = matched + 1, block
        if deepest is None:
            return 0, None
        holders = self._holders[deepest]
        replica = self._remembered[deepest]
        if replica not in holders:
            replica = self._remembered[deepest] = next(iter(holders))
        held = self._held[replica]
        for block in reversed(prefix[:matched]):
            if block in held:
                held[block] = held[block][0], now
                held.move_to_end(block)
        return matched, replica

    def matched_by(self, prefix: Sequence[int]) -> list[int]:
        """How many of this prompt's blocks each replica holds, up to the first that nobody holds."""
        counts = [0] * len(self._held)
        for block in prefix:
            holders = self._holders.get(block)
            if holders is None:
                break
            for replica in holders:
                counts[replica] += 1
        return counts

    def evict(self, max_tokens: int) -> None:
        """Forget what each replica has beyond so many tokens, the least recently used first."""
        for replica in range(len(self._held)):
            self.evict_from(replica, max_tokens)

    def evict_from(self, replica: int, max_tokens: int) -> None:
        """Likewise, of one replica."""
        while self.tokens[replica] > max_tokens:
            self._forget_oldest(replica)

    def expire(self, before: float) -> None:
        """Forget what was last used before this time."""
        for replica, held in enumerate(self._held):
            while held and next(iter(held.values()))[1] < before:
                self._forget_oldest(replica)

    def _forget_oldest(self, replica: int) -> None:
        key, (tokens, _) = self._held[replica].popitem(last=False)
        self.tokens[replica] -= tokens
        if isinstance(key, int):
            holders = self._holders[key]
            del holders[replica]
            if not holders:
                del self._holders[key], self._remembered[key]
