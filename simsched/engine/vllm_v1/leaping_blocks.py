"""The leaping engine's account of decoding requests and KV blocks, where prompts share nothing."""

from __future__ import annotations

from collections.abc import Iterator

from simsched.engine.base import CannotLeap
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, RESIDENT
from simsched.engine.vllm_v1.free_queue import FreeQueue
from simsched.engine.vllm_v1.leaping_request import MANY, LeapRequest
from simsched.engine.vllm_v1.state import LeapingState


class LeapingBlocks(LeapingState):
    """Who decodes, and what is free or cached."""

    def __init__(self, config: ResolvedConfig, recorder: Recorder) -> None:
        super().__init__(config, recorder)
        self._caching = config.enable_prefix_caching
        self.queue = FreeQueue()

    # -- decoding requests ----------------------------------------------------------------------------------
    def decoding_request(self, end: int) -> LeapRequest | None:
        """Who finishes in a step, by an entry of `ends`, if that still holds."""
        step, number = divmod(end, MANY)
        request = self.running.get(number)
        if request is None or request.where != DECODING or request.offset + step != self.total[number]:
            return None
        return request

    def ending_by(self, step: int) -> Iterator[LeapRequest]:
        """The decoding requests that finish by then, from the top of the heap."""
        places = [0]
        for at in places:
            if at < len(self.ends) and self.ends[at] < MANY * (step + 1):
                request = self.decoding_request(self.ends[at])
                if request is not None:
                    yield request
                places += 2 * at + 1, 2 * at + 2

    def stop_decoding(self, request: LeapRequest) -> None:
        offset = request.offset
        request.known = known = offset + self.clock.formed
        request.computed = known - 1
        request.where = RESIDENT
        self.growth_by_residue[(1 - offset) % self.block_size] -= 1
        self.num_decoding -= 1
        self.decode_context -= known

    def _steps_to_spare(self, following: int) -> int:
        """For how many steps in all there are blocks (or fewer, if many): one has them, and the next is the
        one after so many."""
        cycles = self.free // self.num_decoding
        if cycles:
            return 1 + cycles * self.block_size
        left, count = self.free, 1
        while (left := left - self.growth_by_residue[(following + count - 1) % self.block_size]) >= 0:
            count += 1
        return count

    # -- KV blocks -----------------------------------------------------------------------------------------
    def allocate(self, blocks: int) -> None:
        self.free -= blocks
        if self.queue.runs:
            self.queue.allocate(blocks)

    def _free_finished(self, tokens: int) -> None:
        """It finishes: the blocks with so many tokens of it are free."""
        hashed, rest = divmod(tokens, self.block_size)
        unhashed = 1 if rest else 0
        self.free += hashed + unhashed
        if self.queue.runs:
            self.queue.put(hashed, unhashed)

    def _free_preempted(self, request: LeapRequest, tokens: int) -> None:
        """It is preempted: likewise, and what stays cached will be of use to it."""
        hashed, rest = divmod(tokens, self.block_size)
        unhashed = 1 if rest else 0
        if self.caching:
            if hashed > (request.known - 1) // self.block_size:
                raise CannotLeap("a block will be computed twice")
            self.queue.leave(request.number, hashed, unhashed, self.free)
        self.free += hashed + unhashed

    def _lookup(self, request: LeapRequest) -> tuple[int, int]:
        """How many blocks of a waiting request are cached, and how many of those are held by others."""
        return self.queue.survivors(request.number) if self.queue.runs else 0, 0

    def catch_up_cache(self) -> None:
        """Without sharing nobody hits what another one has filled."""

    def cached_tokens(self, request: LeapRequest) -> int:
        return self._lookup(request)[0] * self.block_size

    def _allocate_admitted(self, request: LeapRequest, hits: int, blocks: int) -> None:
        """It is admitted with the hits of the latest lookup among so many blocks."""
        self.free -= blocks
        if self.queue.runs:
            self.queue.hit(request.number)
            self.queue.allocate(blocks - hits)

    def mark_cached(self, request: LeapRequest, tokens: int) -> None:
        """A request has blocks for so many tokens (of no concern without sharing)."""

    def turn_away(self, request: LeapRequest) -> None:
        self.queue.runs.pop(request.number, None)
