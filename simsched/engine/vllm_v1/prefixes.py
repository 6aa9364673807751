"""What an uncontended run asks of a prefix cache: whoever arrives looks for its prefix, and leaves what it
has filled.

The run keeps no more of a request than its number, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simsched.engine.arrival import Arrival
from simsched.engine.vllm_v1.answers import Answers
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.shared_blocks import Piece, SharedBlocks
from simsched.engine.vllm_v1.state import LeapingState


class Prefixes:
    """The cache of an engine in which prompts share prefixes."""

    def __init__(self, engine: LeapingState, blocks: SharedBlocks, answers: Answers) -> None:
        self._blocks = blocks
        self._answers = answers
        self._recorder = engine.recorder
        self._size = engine.block_size
        self._watermark = engine.watermark
        self._longest = engine.long_prefill or engine.max_tokens
        self._one_by_one = engine.order.admits_in_order
        self._found: tuple[list[Piece], int] = [], 0  # by the lookup of one that arrives alone
        self.watched = answers.watched
        """Whose answers somebody may hit as they grow: no run goes on with them."""

    def admit(
        self, arrivals: Sequence[Arrival], first: int, growth: int, tokens: int, free: int
    ) -> tuple[int, int, int] | None:
        """Those who arrive together begin, in the step that is being formed.

        Args:
            first: the number of the first of them.
            growth: blocks that the decoding requests take in this step.
            tokens: how many may be computed for them; free: free blocks.

        Returns:
            The tokens computed of their prompts, the blocks taken, with growth, and the sum of n (2 C + n)
            over chunks of n tokens after C; None where it isn't sure that all of them find room, or one may
            hit an answer as it grows: nothing has happened then.
        """
        blocks, answers, size = self._blocks, self._answers, self._size
        for number, arrival in enumerate(arrivals, first):
            blocks.arrived(number, arrival.prefix)
        if not self._fit(arrivals, first, growth, tokens, free):
            for number in range(first, first + len(arrivals)):
                blocks.forget(number)
            return None
        self._recorder.make_room(first + len(arrivals))
        if growth:
            blocks.allocate(growth)
        computed, taken, pairs = 0, growth, 0
        for number, arrival in enumerate(arrivals, first):
            length = arrival.num_prompt_tokens
            found, held = self._found if len(arrivals) == 1 else blocks.lookup(number, length)
            if arrival.prefix:
                answers.arrived(number, length)
            hits = found[-1].end if found else 0
            need = -(-length // size)
            blocks.begin(number, found)
            answers.started(number)
            blocks.allocate(need - hits)
            blocks.fill(number, length)
            hit = hits * size
            if hit:
                self._recorder.num_cached_tokens[number] = hit
            n = length - hit
            computed += n
            taken += need - held
            pairs += n * (hit + length)
        return computed, taken, pairs

    def _fit(self, arrivals: Sequence[Arrival], first: int, growth: int, tokens: int, free: int) -> bool:
        """Is it sure that all of them find room, and does none ask for an answer that grows?"""
        blocks, size, longest = self._blocks, self._size, self._longest
        room = free - growth - self._watermark
        if len(arrivals) == 1:
            if self._answers.is_grown_for(first):
                return False
            length = arrivals[0].num_prompt_tokens
            found, held = self._found = blocks.lookup(first, length)
            n = length - found[-1].end * size if found else length
            fits = n <= tokens and n <= longest and -(-length // size) - held <= room
            return fits and not blocks.would_take(growth, found)
        if self._one_by_one:
            return False
        # what one takes may be what another would have hit: count without hits
        need = total = 0
        for number, arrival in enumerate(arrivals, first):
            length = arrival.num_prompt_tokens
            if length > longest or self._answers.is_grown_for(number):
                return False
            need += -(-length // size)
            total += length
        return total <= tokens and need <= room

    def allocate(self, count: int) -> None:
        """Decoding requests take so many blocks."""
        self._blocks.allocate(count)

    def leave(self, number: int, computed: int) -> int:
        """It is done, with so many tokens computed; returns how many blocks come free."""
        if self._answers.stopped(number):
            self._blocks.fill(number, computed)
        self._answers.left(number)
        return self._blocks.release(number, computed, finished=True)


def in_batch_order(some: Sequence[int], running: Mapping[int, LeapRequest]) -> list[int]:
    """Some of those who run, as the batch has them: first those who ran before the uncontended run began, in
    their order, then the others by number."""
    return [*(who for who in running if who in some), *sorted(who for who in some if who not in running)]
