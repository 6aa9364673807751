"""FCFS in the fork: vLLM 0.4.1's own chunked-prefill path, with preemption by recompute."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Sequence

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, RESIDENT, WAITING
from simsched.engine.vllm_ltr.base import LtrEngine


class FcfsEngine(LtrEngine):
    """Running requests by arrival, then the waiting queue."""

    def __init__(self, config: ResolvedConfig, recorder: Recorder, *, leap: bool) -> None:
        super().__init__(config, recorder, leap=leap)
        self.running: list[int] = []
        self.waiting: deque[int] = deque()

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        self.waiting.append(number)

    def schedule(self, now: float) -> Batch | None:
        if not self.unfinished:
            return None
        self.now = now
        preempted: list[int] = []
        residents = len(self.running) - self.num_decoding
        if self.num_blocks - self.blocks_used > self.growth() + residents:
            count, others = self._walk()
            chosen, skipped = self.running[:count], self.running[count:]
        else:
            chosen, others, skipped, preempted = self._walk_short_of_blocks()
        for i in skipped:
            # here the fork asserts and dies: an earlier partial prefill took the whole budget
            self.counters["skipped"] += 1
            if self.where[i] == DECODING:
                self.pause((i,))
        self.grow_decoding()
        prefills: list[tuple[int, int]] = []
        for i, tokens in others:
            if self.computed[i] == self.known[i] - 1 and self.known[i] > self.prompt[i]:
                self.join((i,))
            else:
                prefills.append((i, tokens))
        budget = self.max_tokens - (len(chosen) - len(others)) - sum(tokens for _, tokens in others)
        admitted = self._admit(budget, self.max_num_seqs - len(chosen))
        self.waiting.extendleft(preempted)
        self.chunks = admitted + prefills
        if not self.chunks and not self.num_decoding:
            raise self.stuck()
        quiet = not (self.chunks or preempted or skipped)
        self.slack = self.num_blocks - self.blocks_used - 1 if quiet else -1
        decodes: list[int] = []
        if not self.leap:
            in_prompt = {i for i, _ in prefills}
            decodes = [i for i in chosen if i not in in_prompt]
        return self.make_batch(decodes, preempted)

    def _walk(self) -> tuple[int, list[tuple[int, int]]]:
        """The running requests while the token budget lasts: how many it reaches, and those of them that do
        not decode, with their tokens. Decoding requests take one each, so only the others are looked at."""
        where, known, computed = self.where, self.known, self.computed
        others: list[tuple[int, int]] = []
        budget = self.max_tokens
        for position, i in [(p, i) for p, i in enumerate(self.running) if where[i] != DECODING]:
            left = budget - (position - len(others))
            if left <= 0:
                break
            tokens = min(known[i] - computed[i], left)
            others.append((i, tokens))
            budget -= tokens
        return min(len(self.running), len(others) + budget), others

    def _walk_short_of_blocks(self) -> tuple[list[int], list[tuple[int, int]], list[int], list[int]]:
        """The running requests one by one: each needs a free block, or the last one to come is preempted.

        Returns the chosen, those of them that do not decode with their tokens, the skipped, and the
        preempted.
        """
        remaining = deque(self.running)
        chosen: list[int] = []
        others: list[tuple[int, int]] = []
        skipped: list[int] = []
        preempted: list[int] = []
        budget = self.max_tokens
        free = self.num_blocks - self.blocks_used
        while remaining:
            i = remaining.popleft()
            known = self.num_known(i)
            tokens = min(known - self.num_computed(i), budget)
            if tokens == 0:
                skipped.append(i)
                continue
            while free < 1:
                victim = remaining.pop() if remaining else i
                free += self._recompute(victim)
                preempted.append(victim)
                if victim == i:
                    break
            else:
                decodes_on = self.where[i] == DECODING
                held = self.blocks_for(known - 1) if decodes_on else self.held[i]
                free -= max(self.blocks_for(known) - held, 0)
                budget -= tokens
                chosen.append(i)
                if not decodes_on:
                    others.append((i, tokens))
        self.running = [i for i in self.running if self.where[i] != WAITING]
        return chosen, others, skipped, preempted

    def _recompute(self, i: int) -> int:
        """Preempt: its outputs become prompt, its blocks (returned) are free."""
        if self.where[i] == DECODING:
            self.pause((i,))
        held = self.held[i]
        self.blocks_used -= held
        self.held[i] = self.computed[i] = 0
        self.where[i] = WAITING
        self.recorder.preempted(i)
        self.counters["recomputed"] += 1
        return held

    def _admit(self, budget: int, slots: int) -> list[tuple[int, int]]:
        """Take waiting requests from the head of the queue while tokens, slots and blocks last."""
        admitted: list[tuple[int, int]] = []
        while self.waiting and budget > 0 and slots > 0:
            i = self.waiting[0]
            blocks = self.blocks_for(self.known[i])
            if self.num_blocks - self.blocks_used - blocks < self.watermark:
                break
            self.waiting.popleft()
            self.held[i] = blocks
            self.blocks_used += blocks
            self.where[i] = RESIDENT
            self.recorder.scheduled(i, self.now)
            tokens = min(self.known[i], budget)
            admitted.append((i, tokens))
            insort(self.running, i)
            budget -= tokens
            slots -= 1
        return admitted

    def after_step(self, finished: Sequence[int], steps: int) -> None:
        for i in finished:
            self.running.remove(i)
