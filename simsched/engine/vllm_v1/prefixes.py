"""What an uncontended run asks of a prefix cache: whoever arrives looks for its prefix, and leaves what it
has filled.

The run keeps no more of a request than its number, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simsched.engine.vllm_v1.answers import Answers
from simsched.engine.vllm_v1.arriving import Arriving
from simsched.engine.vllm_v1.leaping_request import LeapRequest
from simsched.engine.vllm_v1.shared_blocks import Piece, SharedBlocks
from simsched.engine.vllm_v1.state import LeapingState
from simsched.workload.content import Stretch


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
        self.watched = answers.watched
        """Whose answers somebody may hit as they grow: no run goes on with them."""
        self.owed = 0
        """Blocks that decoding requests have taken, and which the cache has not been told of: it is before it
        matters (`settle`)."""

    def admit(
        self, first: int, lengths: Sequence[int], arriving: Arriving, growth: int, tokens: int, free: int
    ) -> tuple[int, int, int] | None:
        """Those who arrive together begin, in the step that is being formed.

        Args:
            first: the number of the first of them.
            lengths: of their prompts.
            growth: blocks that the decoding requests take in this step.
            tokens: how many may be computed for them; free: free blocks.

        Returns:
            The tokens computed of their prompts, the blocks taken, with growth, and the sum of n (2 C + n)
            over chunks of n tokens after C; None where it isn't sure that all of them find room, or one may
            hit an answer as it grows: nothing has happened then.
        """
        self.settle()
        blocks, upto = self._blocks, first + len(lengths)
        for number in range(first, upto):
            blocks.arrived(number, arriving.prefix(number))
        if not self._fit(first, lengths, tokens, free - growth):
            for number in range(first, upto):
                blocks.forget(number)
            return None
        self._recorder.make_room(upto)
        if growth:
            blocks.allocate(growth)
        computed, taken, pairs = 0, growth, 0
        for number, length in enumerate(lengths, first):
            found, held = blocks.lookup(number, length)
            if arriving.prefix(number):
                self._answers.arrived(number, length)
            self.begin(number, found, length)
            hit = found[-1].end * self._size if found else 0
            if hit:
                self._recorder.num_cached_tokens[number] = hit
            n = length - hit
            computed += n
            taken += -(-length // self._size) - held
            pairs += n * (hit + length)
        return computed, taken, pairs

    def admit_one(
        self, number: int, length: int, prefix: Sequence[Stretch], growth: int, tokens: int, free: int
    ) -> tuple[int, int, int] | None:
        """`admit` of one who arrives alone, with a prompt of this length."""
        if self.owed:
            self.settle()
        blocks, answers, size = self._blocks, self._answers, self._size
        blocks.arrived(number, prefix)
        if not answers.is_grown_for(number):
            found, held = blocks.lookup(number, length)
            hits = found[-1].end if found else 0
            n = length - hits * size
            need = -(-length // size)
            taken = need - held + growth
            fits = n <= tokens and n <= self._longest and taken + self._watermark <= free
            if fits and not (growth and blocks.would_take(growth, found)):
                if growth:
                    blocks.allocate(growth)
                if prefix:
                    answers.arrived(number, length)
                blocks.begin(number, found)
                answers.started(number)
                blocks.allocate(need - hits)
                blocks.fill(number, length)
                if hits:
                    self._recorder.make_room(number + 1)
                    self._recorder.num_cached_tokens[number] = hits * size
                return n, taken, n * (2 * length - n)
        blocks.forget(number)
        return None

    def _fit(self, first: int, lengths: Sequence[int], tokens: int, free: int) -> bool:
        """Is it sure that several find room, and does none ask for an answer that grows?"""
        if self._one_by_one or max(lengths) > self._longest or sum(lengths) > tokens:
            return False
        for number in range(first, first + len(lengths)):
            if self._answers.is_grown_for(number):
                return False
        # what one takes may be what another would have hit: count without hits
        need = sum(-(-length // self._size) for length in lengths)
        return need + self._watermark <= free

    def arrive(self, number: int, length: int, prefix: Sequence[Stretch]) -> bool:
        """One with a prompt of this length waits from now on; False, and unknown here, if it might hit an
        answer that grows."""
        self._blocks.arrived(number, prefix)
        if self._answers.is_grown_for(number):
            self._blocks.forget(number)
            return False
        if prefix:
            self._answers.arrived(number, length)
        return True

    def lookup(self, number: int, length: int) -> tuple[list[Piece], int]:
        """What is cached of the prompt of one that is known, and how many of those blocks are held."""
        return self._blocks.lookup(number, length)

    def would_take(self, growth: int, found: list[Piece]) -> bool:
        """Would the next blocks be taken from what a lookup has found?"""
        return growth > 0 and self._blocks.would_take(growth, found)

    def begin(self, number: int, found: list[Piece], tokens: int) -> None:
        """One that is known takes what the lookup has found, and blocks for what is to be computed of its
        prompt, up to so many tokens."""
        blocks = self._blocks
        blocks.begin(number, found)
        self._answers.started(number)
        blocks.allocate(-(-tokens // self._size) - (found[-1].end if found else 0))
        blocks.fill(number, tokens)

    def go_on(self, number: int, count: int, tokens: int) -> None:
        """One that has begun takes so many blocks, for its prompt up to so many tokens."""
        self._blocks.allocate(count)
        self._blocks.fill(number, tokens)

    def settle(self) -> None:
        """The cache is told of what decoding requests have taken: always before anything else happens to it,
        so that it loses what it would have lost step by step."""
        if self.owed:
            self._blocks.allocate(self.owed)
            self.owed = 0

    def leave(self, number: int, computed: int) -> int:
        """It is done, with so many tokens computed; returns how many blocks come free."""
        if self.owed:
            self.settle()
        if self._answers.stopped(number):
            self._blocks.fill(number, computed)
        self._answers.left(number)
        return self._blocks.release(number, computed, finished=True)


def in_batch_order(some: Sequence[int], running: Mapping[int, LeapRequest]) -> list[int]:
    """Some of those who run, as the batch has them: first those who ran before the uncontended run began, in
    their order, then the others by number."""
    return [*(who for who in running if who in some), *sorted(who for who in some if who not in running)]
