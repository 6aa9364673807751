"""What a router believes is cached where: it remembers which prompts it sent to which replica.

Nothing tells it what an engine has really thrown out, so it forgets by itself: the least recently used first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from simsched.workload.content import Stretch


def beginning(prefix: Sequence[Stretch], tokens: int) -> list[Stretch]:
    """The stretches of the first so many tokens."""
    kept: list[Stretch] = []
    for node, end in prefix:
        if kept and kept[-1].end >= tokens:
            break
        kept.append(Stretch(node, min(end, tokens)))
    return kept


class SentPrefixes:
    """The prompts sent to each replica, as a radix tree. A stretch is an edge of that tree, of which a prompt
    may have only the first tokens, and stands for all that comes before it too; so the tree is a flat table,
    and a prompt's path is its list of stretches.

    As a prompt touches its whole path, no edge is ever older than one behind it: throwing out the oldest
    first takes leaves first.
    """

    def __init__(self, num_replicas: int) -> None:
        # per replica: node or tail -> its tokens and when it was last used, the least recently used first
        self._held: list[OrderedDict[object, tuple[int, float]]] = [
            OrderedDict() for _ in range(num_replicas)
        ]
        self._holders: dict[int, dict[int, None]] = {}
        self.tokens = [0] * num_replicas
        """Tokens of the prompts remembered for each replica, a shared prefix counted once."""

    def insert(self, prefix: Sequence[Stretch], num_prompt_tokens: int, replica: int, now: float) -> None:
        """A prompt goes to this replica: the part that others share, then a tail of its own."""
        held = self._held[replica]
        place = prefix[-1].end if prefix else 0
        if num_prompt_tokens > place:
            held[object()] = num_prompt_tokens - place, now
            self.tokens[replica] += num_prompt_tokens - place
        for at in range(len(prefix) - 1, -1, -1):  # the path's beginning is the most recently used
            node, end = prefix[at]
            tokens = end - prefix[at - 1].end if at else end
            before = held.get(node, (0, now))[0]
            if node not in held:
                self._holders.setdefault(node, {})[replica] = None
            held[node] = max(tokens, before), now
            self.tokens[replica] += max(tokens - before, 0)
            held.move_to_end(node)

    def matched_by(self, prefix: Sequence[Stretch]) -> list[int]:
        """How many of this prompt's first tokens each replica holds."""
        matched = [0] * len(self._held)
        place = 0
        for node, end in prefix:
            holders = self._holders.get(node)
            if holders is None:
                break
            for replica in holders:
                if matched[replica] == place:
                    matched[replica] = min(end, place + self._held[replica][node][0])
            place = end
        return matched

    def evict_from(self, replica: int, max_tokens: int) -> None:
        """Forget what a replica has beyond so many tokens, the least recently used first."""
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
                del self._holders[key]
