"""What must hold in every run, whatever the engine, policy and options.

`check` takes a run as outsiders see it (step log, record, configuration) and rebuilds from the log alone what
each request had computed and held; it knows no engine. Where prefix hits are possible the log does not tell
how much of a prompt was reused, and the token and block accounts are bounds instead of equalities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from simsched.cost_model.base import CostModel, StepFeatures
from simsched.engine.config import EngineConfig
from simsched.record import RunRecord

Step = dict[str, Any]


class ViolationError(AssertionError):
    """An invariant does not hold; `invariant` is its name."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


def require(holds: object, invariant: str, what: str) -> None:
    if not holds:
        raise ViolationError(invariant, what)


def check(
    steps: Sequence[Step],
    record: RunRecord,
    config: EngineConfig,
    cost: CostModel,
    hooks: frozenset[str] = frozenset(),
) -> None:
    """Raises ViolationError at the first thing that is wrong. `cost` has no price on swaps or predictions;
    `hooks` are the decisions beyond order that the policy takes."""
    replay = Replay(record, config, cost, hooks)
    for step in steps:
        replay.take(step)
    replay.at_the_end(steps)


@dataclass
class Account:
    """One request, as far as the log has come."""

    prompt: int
    output: int
    computed: int = 0
    emitted: int = 0
    scheduled: int = 0
    """Tokens in all."""
    admissions: int = 0
    evictions: int = 0
    held: int = 0
    """KV blocks on the GPU, if it runs."""
    last_token: float = float("nan")
    longest_gap: float = float("nan")

    @property
    def known(self) -> int:
        return self.prompt + self.emitted


@dataclass
class Replay:
    """The state of the engine, rebuilt from its log."""

    record: RunRecord
    config: EngineConfig
    cost: CostModel
    hooks: frozenset[str] = frozenset()
    running: dict[str, None] = field(default_factory=dict)
    """Those that hold KV blocks on the GPU."""
    swapped: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    end: float = 0.0
    number: int = 0

    def __post_init__(self) -> None:
        trace = self.record.trace
        self.ids = trace.request_ids()
        self.index = {name: i for i, name in enumerate(self.ids)}
        self.accounts = {
            name: Account(int(prompt), int(output))
            for name, prompt, output in zip(
                self.ids, trace.num_prompt_tokens, trace.num_output_tokens, strict=True
            )
        }
        self.arrival = dict(zip(self.ids, self.record.arrival_time.tolist(), strict=True))
        self.v1 = self.config.preset == "vllm-v1"
        assert self.config.num_gpu_blocks is not None
        self.usable = self.config.num_gpu_blocks - (1 if self.v1 else 0)  # V1 has a null block
        self.watermark = int(self.config.watermark * self.config.num_gpu_blocks)
        caching = self.v1 and self.config.enable_prefix_caching
        shared = trace.hash_ids is not None or bool(self.record.num_preemptions.sum())
        self.exact = not (caching and shared)
        """No prefix is ever hit."""

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)

    def unfinished(self, now: float) -> list[str]:
        return [name for name in self.ids if self.arrival[name] <= now and name not in self.finished]

    # -- a step ------------------------------------------------------------------------------------------
    def take(self, step: Step) -> None:
        self._clock(step)
        before = dict(self.running)
        self._evictions(step)
        self._batch(step)
        for name, tokens in step["scheduled"].items():
            self._schedule(name, tokens, step)
        self._counts(step)
        self._blocks(step)
        self._work(step)
        self._cost(step, before)
        self.end = step["time"] + step["step_time"]
        for name, tokens in step["scheduled"].items():
            self._update(name, tokens)

    def _clock(self, step: Step) -> None:
        self.number += 1
        require(step["step"] == self.number, "clock", f"step {step['step']} is the {self.number}th")
        require(step["step_time"] > 0, "clock", f"step {self.number} takes {step['step_time']} s")
        start = step["time"]
        require(start >= self.end, "clock", f"step {self.number} starts at {start}, before {self.end}")
        if start > self.end or self.number == 1:
            waited = self.unfinished(self.end) if self.number > 1 else []
            require(not waited, "idle", f"nothing runs from {self.end} to {start}, but {waited} wait")
            coming = min((self.arrival[n] for n in self.ids if n not in self.finished), default=None)
            require(start == coming, "idle", f"the engine wakes at {start}; an arrival is at {coming}")

    def _evictions(self, step: Step) -> None:
        for name in step["preempted"]:
            require(name in self.running, "preemption", f"{name} is preempted without running")
            del self.running[name]
            account = self.accounts[name]
            account.computed = account.held = 0
            account.evictions += 1
        for name in step.get("swapped_out", ()):
            require(name in self.running, "preemption", f"{name} is swapped out without running")
            require(name not in step["scheduled"], "preemption", f"{name} runs as it is swapped out")
            del self.running[name]
            self.swapped.add(name)
            self.accounts[name].evictions += 1
        for name in step.get("swapped_in", ()):
            require(name in self.swapped, "preemption", f"{name} is swapped in without being out")
            self.swapped.remove(name)
            self.running[name] = None

    def _batch(self, step: Step) -> None:
        config, scheduled = self.config, step["scheduled"]
        require(scheduled, "batch", f"step {self.number} is empty")
        require(len(scheduled) <= config.max_num_seqs, "batch", f"{len(scheduled)} sequences")
        tokens = sum(scheduled.values())
        require(tokens <= config.max_num_batched_tokens, "batch", f"{tokens} tokens")
        if self.v1:
            require(step["num_running"] <= config.max_num_seqs, "batch", f"{step['num_running']} running")
            threshold = config.long_prefill_token_threshold
            # displaced requests are held out of the queue, and so are those that the policy has not let in:
            # whoever is left may be alone, and is not cut
            threshold = 0 if "chunk" in self.hooks else threshold
            others = 0 if "admit" in self.hooks else step["num_waiting"]
            if threshold and step["num_running"] + others > 1 and not step["preempted"]:
                require(max(scheduled.values()) <= threshold, "batch", "a chunk over the threshold")

    def _schedule(self, name: str, tokens: int, step: Step) -> None:
        require(name in self.accounts, "conservation", f"{name} is not in the trace")
        require(name not in self.finished, "conservation", f"{name} runs after it is done")
        require(self.arrival[name] <= step["time"], "arrival", f"{name} runs before it arrives")
        require(name not in self.swapped, "preemption", f"{name} runs while it is swapped out")
        require(tokens >= 1, "tokens", f"{name} gets {tokens} tokens")
        account = self.accounts[name]
        if name not in self.running:
            require(account.computed == 0, "tokens", f"{name} kept tokens without blocks")
            self.running[name] = None
            account.admissions += 1
            account.held = 0 if self.v1 else self.blocks(account.known)
            if account.admissions == 1:
                first = self.record.first_scheduled_time[self.index[name]]
                require(first == step["time"], "record", f"{name} first runs at {step['time']}, not {first}")
        account.scheduled += tokens
        if self.exact:
            computed = account.computed + tokens
            require(computed <= account.known, "tokens", f"{name}: {computed} of {account.known} tokens")
            decodes = account.emitted and computed == account.known and tokens == 1
            if self.v1:
                account.held = self.blocks(computed)
            elif decodes:
                account.held = max(account.held, self.blocks(account.known))

    def _counts(self, step: Step) -> None:
        running = len(self.running)
        waiting = len(self.unfinished(step["time"])) - running - len(self.swapped)
        found = step["num_running"], step["num_waiting"]
        require(
            found == (running, waiting), "conservation", f"running, waiting {found}: {running}, {waiting}"
        )

    def _blocks(self, step: Step) -> None:
        used = step["kv_blocks_used"]
        require(0 < used <= self.usable, "blocks", f"{used} of {self.usable} are used")
        if self.exact:
            held = sum(self.accounts[name].held for name in self.running)
            require(used == held, "blocks", f"{used} are used, {held} are held")
        else:
            most = sum(self.blocks(a.prompt + a.output) for a in map(self.accounts.get, self.running) if a)
            require(used <= most, "blocks", f"{used} are used; {list(self.running)} hold {most} at most")

    def _work(self, step: Step) -> None:
        """With a slot, budget and blocks for any of them, nobody is left out, unless the policy says so."""
        if self.hooks & {"admit", "token_budget", "chunk"}:
            return
        scheduled = step["scheduled"]
        left_out = [name for name in self.unfinished(step["time"]) if name not in scheduled]
        evicted = step["preempted"] or step.get("swapped_out")
        slots = self.config.max_num_seqs - (step["num_running"] if self.v1 else len(scheduled))
        budget = self.config.max_num_batched_tokens - sum(scheduled.values())
        if not left_out or evicted or slots <= 0 or budget <= 0:
            return
        free = self.usable - step["kv_blocks_used"] - self.watermark
        if not self.v1:
            free -= len(scheduled)  # each may claim a block more
        for name in left_out:
            account = self.accounts[name]
            tokens = account.known if self.exact else account.prompt + account.output
            if self.blocks(tokens) + (not self.v1) > free:
                return
        require(False, "idle", f"step {self.number} leaves out {left_out} with room for any of them")

    def _cost(self, step: Step, before: dict[str, None]) -> None:
        """The step took what its content costs."""
        if not self.exact:
            return
        P = N = S = K = 0
        Q = 0.0
        for name, tokens in step["scheduled"].items():
            account = self.accounts[name]
            if account.emitted and tokens == 1 and account.computed + 1 == account.known:
                N += 1
                K += account.computed + 1
            else:
                P += tokens
                S += 1
                Q += tokens * (account.computed + tokens / 2)
        others = len(self.unfinished(step["time"])) - len(step["scheduled"])
        expected = self.cost.step_time(StepFeatures(P, N, S, K, Q, others))
        close = abs(step["step_time"] - expected) <= 1e-9 * expected
        require(close, "cost", f"step {self.number} takes {step['step_time']}, not {expected}")

    def _update(self, name: str, tokens: int) -> None:
        account, i = self.accounts[name], self.index[name]
        if not self.exact:
            if self.record.finish_time[i] == self.end:
                self._finish(name)
            return
        account.computed += tokens
        if account.computed < account.known:
            return
        account.emitted += 1
        if account.emitted == 1:
            require(
                self.record.first_token_time[i] == self.end, "record", f"{name}: first token at {self.end}"
            )
        else:
            account.longest_gap = np.fmax(account.longest_gap, self.end - account.last_token)
        account.last_token = self.end
        if account.emitted == account.output:
            require(self.record.finish_time[i] == self.end, "record", f"{name} is done at {self.end}")
            self._finish(name)

    def _finish(self, name: str) -> None:
        self.finished.add(name)
        del self.running[name]

    # -- the whole run -----------------------------------------------------------------------------------
    def at_the_end(self, steps: Sequence[Step]) -> None:
        record = self.record
        require(len(self.ids) == len(self.index), "conservation", "two requests with one id")
        require(len(self.finished) == len(self.ids), "conservation", f"{set(self.ids) - self.finished} left")
        require(not self.running and not self.swapped, "blocks", "blocks are held after the end")
        require(record.num_steps == len(steps), "record", f"{record.num_steps} steps, {len(steps)} logged")
        require(record.end_time == self.end, "record", f"ends at {record.end_time}, not {self.end}")
        evictions = Counter({name: account.evictions for name, account in self.accounts.items()})
        for name, account in self.accounts.items():
            i = self.index[name]
            found = int(record.num_preemptions[i])
            require(found == evictions[name], "preemption", f"{name}: {found} times, not {evictions[name]}")
            self._tokens_add_up(name, account)
            times = (
                record.arrival_time[i],
                record.first_scheduled_time[i],
                record.first_token_time[i],
                record.finish_time[i],
            )
            require(all(a <= b for a, b in pairwise(times)), "record", f"{name}: {times}")
            if self.exact and account.output > 1:
                same = np.isclose(record.max_itl[i], account.longest_gap, rtol=1e-9, atol=0)
                require(same, "record", f"{name}: max_itl {record.max_itl[i]}, not {account.longest_gap}")
        gaps = int((record.trace.num_output_tokens - 1).sum())
        require(record.itl.count == gaps, "record", f"{record.itl.count} gaps, not {gaps}")
        spans = float((record.finish_time - record.first_token_time).sum())
        require(np.isclose(record.itl.total, spans, rtol=1e-9), "record", "the gaps don't add up")

    def _tokens_add_up(self, name: str, account: Account) -> None:
        """All that a request needs is computed, and nothing but what was lost is computed again."""
        needed = account.prompt + account.output - 1
        require(account.scheduled >= account.output, "tokens", f"{name}: {account.scheduled} computed")
        most = needed * account.admissions
        require(account.scheduled <= most, "tokens", f"{name}: {account.scheduled} computed, {most} needed")
        if account.admissions == 1:
            hit = needed - account.scheduled
            whole = hit == 0 if self.exact else hit % self.config.block_size == 0
            require(0 <= hit < account.prompt and whole, "tokens", f"{name}: a prefix hit of {hit} tokens")
