"""The fork's scheduler as its rules read, list by list and request by request: slow, and easy to check.

Written from the rules of the fork, with its step (5) and its slip, which the engine leaves out as
unreachable.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from simsched.engine.config import EngineConfig
from simsched.workload.trace import Trace


@dataclass(eq=False)
class Req:
    index: int
    arrival: float
    prompt: int
    total: int
    score: float
    guess: float
    cls: int
    N: int = 0
    C: int = 0
    held: int = 0
    idle: int = 0
    runs: int = 0
    promoted: bool = False
    level: int = 0
    service: float = 0.0

    @property
    def output(self) -> int:
        return self.N - self.prompt

    @property
    def decodes(self) -> bool:
        return self.N - 1 == self.C and self.output > 0


Step = dict[str, Any]


class Reference:
    """`order` is the name of a policy; `step(now, cost)` runs one step and says what it did."""

    def __init__(
        self, trace: Trace, config: EngineConfig, order: str, starvation: tuple[int, int] | None = None
    ) -> None:
        self.config, self.order, self.starvation = config, order, starvation
        self.B, self.free = config.block_size, config.num_gpu_blocks
        self.watermark = int(config.watermark * config.num_gpu_blocks)
        self.waiting: list[Req] = []
        self.running: list[Req] = []
        self.swapped: list[Req] = []
        self.queues: list[list[Req]] = [[] for _ in range(200)]
        prompts, outputs = trace.num_prompt_tokens.tolist(), trace.num_output_tokens.tolist()
        self.requests = [
            Req(i, a, p, p + o, s, g, c, N=p)
            for i, (a, p, o, s, g, c) in enumerate(
                zip(
                    trace.arrival_time.tolist(), prompts, outputs,
                    trace.score.tolist(), trace.predicted_length.tolist(), trace.predicted_class.tolist(),
                    strict=True,
                )
            )
        ]  # fmt: skip

    def add(self, index: int) -> None:
        self.waiting.append(self.requests[index])
        self.queues[0].append(self.requests[index])

    def blocks(self, tokens: int) -> int:
        return ceil(tokens / self.B)

    # the orders

    def ordered(self) -> list[Req]:
        everyone = self.waiting + self.running + self.swapped
        if self.starvation:
            threshold, period = self.starvation
            for r in everyone:
                if r.idle >= threshold:
                    r.promoted, r.idle, r.runs = True, 0, period
                elif r.promoted and r.runs <= 0:
                    r.promoted = False
        if self.order == "mlfq":
            return [r for queue in self.queues for r in queue]
        if self.order == "po":
            early = [r for r in self.running + self.swapped if r.output < 15]
            late = [r for r in self.running + self.swapped if r.output >= 15]
            return sorted(self.waiting + early, key=lambda r: r.arrival) + sorted(late, key=lambda r: r.guess)
        keys = {
            "fcfs": lambda r: (not r.promoted, r.arrival),
            "ranking": lambda r: (not r.promoted, r.score),
            "classification": lambda r: (not r.promoted, r.cls, r.index),
            "srtf": lambda r: (not r.promoted, r.total - r.N),
        }
        return sorted(everyone, key=keys[self.order])

    # the steps

    def step(self, now: float) -> tuple[Step, list[tuple[Req, int]]]:
        return self.fcfs() if self.order == "fcfs" and not self.starvation else self.general()

    def fcfs(self) -> tuple[Step, list[tuple[Req, int]]]:
        budget, slots = self.config.max_num_batched_tokens, self.config.max_num_seqs
        queue = sorted(self.running, key=lambda r: r.index)
        decodes, prefills, preempted, skipped = [], [], [], []
        while queue:
            r = queue.pop(0)
            n = min(r.N - r.C, budget)
            if n == 0:
                skipped.append(r)
                continue
            while self.free < 1:
                victim = queue.pop() if queue else r
                self.free += victim.held
                victim.held = victim.C = 0
                preempted.append(victim)
                if victim is r:
                    break
            else:
                self.grow(r)
                (decodes if r.decodes else prefills).append((r, n))
                budget -= n
                slots -= 1
        new = []
        while self.waiting and budget > 0 and slots > 0:
            r = self.waiting[0]
            if self.free - self.blocks(r.N) < self.watermark:
                break
            self.waiting.pop(0)
            n = min(r.N, budget)
            self.grow(r)
            new.append((r, n))
            budget -= n
            slots -= 1
        for r in preempted:
            self.waiting.insert(0, r)
        batch = new + prefills + decodes
        self.running = skipped + [r for r, _ in new + decodes + prefills]
        return self.describe(batch, preempted=preempted), batch

    def grow(self, r: Req) -> None:
        need = self.blocks(r.N) - r.held
        if need > 0:
            self.free -= need
            r.held += need
            assert self.free >= 0

    def general(self) -> tuple[Step, list[tuple[Req, int]]]:
        order = self.ordered()
        budget, slots = self.config.max_num_batched_tokens, self.config.max_num_seqs
        chosen: list[Req] = []
        tokens: dict[Req, int] = {}
        needed = 0
        for r in order:
            n = min(r.N - r.C, budget)
            if n == 0 or slots == 0:
                break
            chosen.append(r)
            tokens[r] = n
            budget -= n
            slots -= 1
            needed += self.price(r)
        rest = order[len(chosen) :]
        short = needed - self.free + self.watermark
        tight = short > 0
        out, dropped = [], []
        if tight:
            for r in reversed(rest):
                if short <= 0:
                    break
                if r in self.running:
                    short -= r.held
                    self.swap_out(r, out)
            while short > 0 and chosen:
                r = chosen.pop()
                dropped.append(r)
                short -= self.price(r)
                if r in self.running:
                    short -= r.held
                    self.swap_out(r, out)
        came = [r for r in chosen if r in self.swapped]
        if not tight:
            left = self.config.max_num_batched_tokens - sum(tokens[r] for r in chosen)
            levels = self.queues if self.order == "mlfq" else [rest]
            for level in levels:
                for r in [r for r in level if r in self.swapped and r not in chosen]:
                    if short + r.held + 1 < 0 and left > 0 and len(chosen) < self.config.max_num_seqs:
                        chosen.append(r)
                        came.append(r)
                        tokens[r] = r.N - r.C
                        short += r.held + 1
                    else:
                        break
        for r in came:
            self.free -= r.held
        groups: dict[str, list[tuple[Req, int]]] = {k: [] for k in ("new", "rd", "rp", "sd", "sp")}
        for r in chosen:
            kind = "new" if r in self.waiting else ("s" if r in came else "r") + ("d" if r.decodes else "p")
            groups[kind].append((r, tokens[r]))
            self.grow(r)
        running = [r for r in self.running if r not in chosen and r not in out]
        for kind in ("new", "rd", "rp", "sd", "sp"):
            running += [r for r, _ in groups[kind]]
        self.running = running
        self.waiting = [r for r in self.waiting if r not in chosen]
        self.swapped = [r for r in self.swapped if r not in chosen] + out
        if self.order == "mlfq":
            for queue in self.queues:
                queue[:] = [r for r in queue if r not in chosen and r not in dropped]
            for r in reversed(dropped):
                self.queues[r.level].insert(0, r)
        for r in self.running + self.waiting + self.swapped:
            if r in chosen:
                r.idle = 0
                r.runs -= r.promoted
            else:
                r.idle += 1
        batch = [pair for kind in ("new", "rp", "sp", "rd", "sd") for pair in groups[kind]]
        return self.describe(batch, out=out, came=came), batch

    def price(self, r: Req) -> int:
        if r in self.waiting:
            return self.blocks(r.N)
        return r.held + 1 if r in self.swapped else 1

    def swap_out(self, r: Req, out: list[Req]) -> None:
        self.free += r.held
        self.running.remove(r)
        out.append(r)

    def describe(self, batch: Any, preempted: Any = (), out: Any = (), came: Any = ()) -> Step:
        prefill = [(r, n) for r, n in batch if not r.decodes]
        decodes = [r for r, _ in batch if r.decodes]
        return {
            "scheduled": {r.index: n for r, n in batch},
            "preempted": [r.index for r in preempted],
            "swapped_out": sorted(r.index for r in out),
            "swapped_in": sorted(r.index for r in came),
            "kv": self.config.num_gpu_blocks - self.free,
            "P": sum(n for _, n in prefill),
            "S": len(prefill),
            "Q": sum(n * (r.C + n / 2) for r, n in prefill),
            "N": len(decodes),
            "K": sum(r.C + 1 for r in decodes),
            "moved": self.B * sum(self.held_then(r) for r in [*out, *came]),
        }

    def held_then(self, r: Req) -> int:
        """Blocks when it moved: a swapped-in decode may have taken one more since."""
        return self.blocks(r.C) if r.decodes else r.held

    def update(self, batch: list[tuple[Req, int]], duration: float, mlfq: tuple[float, float]) -> list[int]:
        finished = []
        for r, n in batch:
            r.C += n
            if r.C == r.N:
                r.N += 1
                if r.total == r.N:
                    finished.append(r)
        for r in finished:
            self.free += r.held
            self.running.remove(r)
        base, threshold = mlfq
        for r, _ in batch:
            if self.order == "mlfq" and r not in finished:
                r.service += duration
                if r.service > base * threshold**r.level:
                    r.level += 1
                    r.service = 0.0
                self.queues[r.level].insert(0, r)
        return [r.index for r in finished]
