"""The fork's path for every policy but FCFS: serve the head of an order of all requests, swap for room.

The order comes in two parts: the decoding requests, and the *line* of all others that can have a place in the
batch, each with the number of decoding requests ahead of it. A step looks at the line one by one, and only
counts decoding requests.

Step (5) of the published description, further swapped requests coming back when nothing had to go out, can
never fire: the walk ends only where the token budget, the slots or the requests do, and (5) needs all three.
So neither it nor its slip is here; `tests/engine/test_vllm_ltr_reference.py` has it, and stays equal.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, RESIDENT, SWAPPED, WAITING
from simsched.engine.vllm_ltr.base import LtrEngine
from simsched.errors import RunError

FEW = 8
"""Quicker put into a sorted list one by one."""

Chunk = tuple[int, int]
Place = tuple[int, int]
"""(request, decoding requests ahead of it in the order)."""
Other = tuple[int, int, int, int]
"""(request, tokens, decoding requests ahead of it, KV blocks that choosing it needs)."""
Entry = tuple[Any, int, int]
"""(place in the order, number that breaks ties, request)."""


@dataclass(slots=True)
class Step:
    """What a step does to each request, in the order of the walk."""

    decodes: list[int]
    """Those that decode from one step to the next; `place` adds those already on the GPU that join them."""
    others: list[Other]
    """The chosen that did not decode in the last step."""
    short: int
    """KV blocks that it lacks; negative: that it has to spare."""
    woken: int
    """How many of the others were idle."""
    out: list[int] = field(default_factory=list)
    """Swapped out, in that order."""
    dropped: list[int] = field(default_factory=list)
    """Walked over but left out for want of blocks, the last of the order first."""
    new: list[Chunk] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    """Already on the GPU, and now among `decodes`."""
    prefills: list[Chunk] = field(default_factory=list)
    """Already on the GPU."""
    in_decodes: list[int] = field(default_factory=list)
    in_prefills: list[Chunk] = field(default_factory=list)


class SortedWalk(LtrEngine):
    """Walk, reserve blocks, run. Subclasses keep the order."""

    marks_idle = True
    """Does the fork count every request's idle steps on this path?"""

    def __init__(self, config: ResolvedConfig, recorder: Recorder, *, leap: bool) -> None:
        super().__init__(config, recorder, leap=leap)
        self.num_resident = 0
        self.num_queued = 0
        self.swap_blocks_used = 0
        self.started_at: list[float | None] = []
        """Start of the current spell of running; None: it did not run in the last step."""
        self.partial: list[int] = []
        """What ran in the last step without decoding, and is not finished; in the fork's order."""
        self.came_in: list[int] = []
        """Decoding requests that were swapped in for the last step."""
        self.idle: list[Entry] = []
        """On the GPU without having run in the last step, sorted as in the order."""

    @property
    def num_running(self) -> int:
        return self.num_resident

    @property
    def num_waiting(self) -> int:
        return self.num_queued

    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        self.started_at.append(None)
        self.num_queued += 1

    def list_work(self, batch: int) -> tuple[int, int]:
        # each chosen request is searched three times in the running list, in which those left out of the last
        # step come first, and once (asserts) in the swapped and twice in the waiting
        running, waiting = self.num_resident, self.num_queued
        swapped = self.unfinished - running - waiting
        compared = batch * (3 * (running - batch) + batch + 2 * waiting + swapped)
        # at the end every request is looked up in the batch
        if self.marks_idle:
            compared += batch * (self.unfinished - batch) + batch * batch // 2
        return self.unfinished, compared

    @abstractmethod
    def entries(self, decoding: list[int], partial: list[int]) -> list[Entry]:
        """These, that ran in the last step and are not chosen, as they are sorted in the order."""

    @abstractmethod
    def start(self, requests: Sequence[int]) -> None:
        """A spell of running begins."""

    @abstractmethod
    def stop(self, requests: Sequence[int]) -> None:
        """A spell of running is over, unfinished."""

    def form(self, decoding: list[int], line: Iterable[Place]) -> tuple[Step, Batch]:
        """The step that serves this order."""
        step = self._walk(decoding, line)
        chosen = len(step.decodes)
        partial = self.partial
        if partial:
            taken = {other[0] for other in step.others}
            partial = [i for i in partial if i not in taken]
        left_out = self.entries(decoding[chosen:], partial) if partial or chosen < len(decoding) else []
        if step.short > 0:
            self._reserve(step, left_out)
        if not step.decodes and not step.others:
            raise self.stuck()
        self._turn_idle(left_out)
        self.grow_decoding()
        self._place(step)
        self.chunks = step.new + step.prefills + step.in_prefills
        self.partial = [i for i, _ in self.chunks]
        self.came_in = step.in_decodes
        came_in = [*step.in_decodes, *(i for i, _ in step.in_prefills)]
        quiet = not (self.chunks or step.out or came_in)
        free = self.num_blocks - self.blocks_used
        self.slack = free - self.num_decoding - self.watermark if quiet else -1
        decodes = [] if self.leap else [*step.decodes, *step.in_decodes]
        return step, self.make_batch(decodes, (), step.out, came_in)

    def _walk(self, decoding: list[int], line: Iterable[Place]) -> Step:
        """Take from the head of the order while slots and the token budget last."""
        known, computed, slots = self.known, self.computed, self.max_num_seqs
        where, started, held, size = self.where, self.started_at, self.held, self.block_size
        others: list[Other] = []
        budget = self.max_tokens  # before any decoding request
        short = self.watermark - (self.num_blocks - self.blocks_used)
        woken = 0
        for i, ahead in line:
            left = budget - ahead
            if left <= 0 or ahead + len(others) >= slots:
                break
            tokens = known[i] - computed[i]
            if tokens > left:
                tokens = left
            budget -= tokens
            if where[i] == SWAPPED:
                price = held[i] + 1
            elif where[i] == WAITING:
                price = -(-known[i] // size)
            else:
                price = 1
                woken += started[i] is None
            short += price
            others.append((i, tokens, ahead, price))
        count = min(len(decoding), budget, slots - len(others))
        return Step(decoding[:count], others, short + count, woken)

    def _turn_idle(self, left_out: list[Entry]) -> None:
        """These keep their blocks and skip the step."""
        if not left_out:
            return
        requests = [entry[2] for entry in left_out]
        self.pause([i for i in requests if self.where[i] == DECODING])
        self.stop(requests)
        if len(left_out) < FEW:
            for entry in left_out:
                insort(self.idle, entry)
        else:
            self.idle += left_out
            self.idle.sort()

    def _reserve(self, step: Step, left_out: list[Entry]) -> None:
        """Swap out from the end of the order, then leave out chosen ones, until the blocks are found."""
        idle, decodes, others, short = self.idle, step.decodes, step.others, step.short
        while short > 0:
            # the chosen are the head of the order, so of the idle ones too
            if len(idle) > step.woken and not (left_out and left_out[-1] > idle[-1]):
                short -= self._swap_out(idle.pop()[2], step)
            elif left_out:
                short -= self._swap_out(left_out.pop()[2], step)
            else:
                break
        while short > 0 and (decodes or others):
            if others and others[-1][2] == len(decodes):
                i, _, _, price = others.pop()
                if self.where[i] == RESIDENT and self.started_at[i] is None:
                    idle.pop()
                    step.woken -= 1
            else:
                i, price = decodes.pop(), 1
            step.dropped.append(i)
            short -= price
            if self.where[i] in (DECODING, RESIDENT):
                short -= self._swap_out(i, step)

    def _swap_out(self, i: int, step: Step) -> int:
        """Its blocks go to the CPU; returns how many."""
        if self.where[i] == DECODING:
            self.pause((i,))
        if self.started_at[i] is not None:
            self.stop((i,))
        held = self.held[i]
        self.where[i] = SWAPPED
        self.blocks_used -= held
        self.swap_blocks_used += held
        limit = self.config.num_swap_blocks
        if limit is not None and self.swap_blocks_used > limit:
            raise RunError(f"--num-swap-blocks {limit}: the swap space is full, where the fork stops too")
        self.recorder.preempted(i)
        self.num_resident -= 1
        self.counters["swapped_out"] += 1
        step.out.append(i)
        return held

    def _place(self, step: Step) -> None:
        """Allocate, swap in, and sort the chosen by what they do."""
        where, known, held = self.where, self.known, self.held
        self.start([other[0] for other in step.others if self.started_at[other[0]] is None])
        for i, tokens, ahead, price in step.others:
            came = where[i]
            if came == WAITING:
                held[i] = price
                self.blocks_used += price
                where[i] = RESIDENT
                self.num_resident += 1
                self.num_queued -= 1
                self.recorder.scheduled(i, self.now)
                step.new.append((i, tokens))
                continue
            if came == SWAPPED:
                self.blocks_used += held[i]
                self.swap_blocks_used -= held[i]
                where[i] = RESIDENT
                self.num_resident += 1
                self.counters["swapped_in"] += 1
            if self.computed[i] != known[i] - 1 or known[i] == self.prompt[i]:
                (step.in_prefills if came == SWAPPED else step.prefills).append((i, tokens))
            elif came == SWAPPED:
                step.in_decodes.append(i)
            else:
                step.decodes.insert(ahead + len(step.joined), i)
                step.joined.append(i)
        self.join([*step.joined, *step.in_decodes])
        del self.idle[: step.woken]
