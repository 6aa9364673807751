"""Names of a prompt's KV blocks, for policies that compare prompts (`simsched.request.PromptBlocks`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from operator import itemgetter

from simsched.engine.arrival import Arrival
from simsched.workload.content import Stretch

Name = tuple[int, int]
"""What a full block holds, with everything before it: (node of its content, or below zero the request whose
own it is; place in the request)."""


def block_name(number: int, content: Sequence[Stretch], block: int, block_size: int) -> Name:
    """A block is known by the node that its last token is in, since a node stands for everything before it.

    Args:
        number: of the request.
        content: what its tokens are.
        block: its place.
        block_size: tokens in a block.
    """
    at = bisect_left(content, (block + 1) * block_size, key=_end)
    return content[at].node if at < len(content) else -1 - number, block


_end = itemgetter(1)


class NamedBlocks:
    """The full blocks of a simulated prompt; each name is made when it is asked for."""

    __slots__ = ("_content", "_length", "_number", "block_size")

    def __init__(self, number: int, arrival: Arrival, block_size: int, caching: bool) -> None:
        self._number = number
        self._content = arrival.content
        self._length = arrival.num_prompt_tokens // block_size if caching else 0
        self.block_size = block_size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, block: int) -> Hashable:
        if not 0 <= block < self._length:
            raise IndexError(block)
        return block_name(self._number, self._content, block, self.block_size)
