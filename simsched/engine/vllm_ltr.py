"""The paper's fork of vLLM 0.4.1 (hao-ai-lab/vllm-ltr @ 13bbf6f): what its three schedulers share.

A request on the GPU that decodes in every step is a *decoder*. Decoders cost nothing per step: each is kept
as an offset from the step counter, their context is one sum, the blocks they take are counted by phase
(tokens modulo the block size), and the step in which they finish is known. A request that stops running is
written out again.

`scheduler()` picks the path: FCFS (`vllm_ltr_fcfs`), MLFQ's queues (`vllm_ltr_mlfq`), and for every other
policy the general path (`vllm_ltr_order`).
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from simsched.cost_model.base import StepFeatures
from simsched.engine.base import Batch
from simsched.engine.config import EngineConfig
from simsched.policies.base import Policy
from simsched.workload.trace import Trace

WAITING, DECODING, RESIDENT, SWAPPED, FINISHED = range(5)
"""Where a request is. RESIDENT: its KV blocks are on the GPU, but it is not a decoder (it is in its prompt,
or was left out of the last step)."""


class ForkEngine(ABC):
    """Requests, KV blocks and step counter; subclasses form the batch."""

    def __init__(self, trace: Trace, config: EngineConfig) -> None:
        assert config.num_gpu_blocks is not None
        assert config.max_model_len is not None
        self.config = config
        self.block_size = config.block_size
        self.num_blocks = config.num_gpu_blocks
        self.watermark = int(config.watermark * config.num_gpu_blocks)
        self.max_num_seqs = config.max_num_seqs
        self.max_tokens = config.max_num_batched_tokens
        n = len(trace)
        self.prompt: list[int] = trace.num_prompt_tokens.tolist()
        outputs: list[int] = trace.num_output_tokens.tolist()
        self.total = [min(p + o, config.max_model_len) for p, o in zip(self.prompt, outputs, strict=True)]
        # of a decoder: not kept up to date, see `offset`
        self.known = list(self.prompt)
        self.computed = [0] * n
        self.held = [0] * n
        self.where = [WAITING] * n
        self.num_preemptions = [0] * n
        # of a decoder: known tokens minus the step counter
        self.offset = [0] * n
        self.step = 0
        self.num_decoders = 0
        self.context = 0
        """Known tokens of all decoders: K of a step in which they all run."""
        self.phase = [0] * config.block_size
        self.ends: list[tuple[int, int]] = []
        """(step counter at which it is done, decoder); entries of past decoders are stale."""
        self.blocks_used = 0
        self.unfinished = 0
        self.chunks: list[tuple[int, int]] = []
        """The prefill chunks of the current step: (request, tokens)."""
        self.unseen = 0
        """Arrivals that the predictor has not scored."""
        self.slack = -1
        """Blocks that repeats of the current batch may take; negative: it may not repeat."""
        self.counters = {"swapped_out": 0, "swapped_in": 0, "recomputed": 0, "skipped": 0}

    @abstractmethod
    def add_request(self, index: int, now: float) -> None:
        """A request has arrived."""

    @abstractmethod
    def schedule(self, now: float) -> Batch | None:
        """Form the next batch; None when nothing can run."""

    @property
    @abstractmethod
    def num_running(self) -> int:
        """Requests in the running list, those that skip the step included."""

    @property
    @abstractmethod
    def num_waiting(self) -> int:
        """Requests in the waiting list (swapped ones are in neither)."""

    def has_unfinished(self) -> bool:
        return self.unfinished > 0

    # tokens and blocks

    def blocks_for(self, tokens: int) -> int:
        """KV blocks of so many tokens."""
        return -(-tokens // self.block_size)

    def num_known(self, i: int) -> int:
        """Prompt and generated tokens of a request."""
        return self.offset[i] + self.step if self.where[i] == DECODING else self.known[i]

    def num_computed(self, i: int) -> int:
        """Tokens of a request that have their KV."""
        return self.offset[i] + self.step - 1 if self.where[i] == DECODING else self.computed[i]

    def grow_decoders(self) -> None:
        """Give each decoder that outgrew its blocks another one; call once a step, before new ones join."""
        self.blocks_used += self.phase[(1 - self.step) % self.block_size]

    def growth(self) -> int:
        """Blocks that `grow_decoders` would take."""
        return self.phase[(1 - self.step) % self.block_size]

    def join(self, i: int) -> None:
        """A resident about to decode becomes a decoder."""
        known = self.known[i]
        blocks = -(-known // self.block_size)
        if blocks > self.held[i]:
            self.blocks_used += blocks - self.held[i]
        self.where[i] = DECODING
        offset = self.offset[i] = known - self.step
        self.phase[offset % self.block_size] += 1
        self.context += known
        self.num_decoders += 1
        heapq.heappush(self.ends, (self.total[i] - offset, i))

    def leave(self, i: int) -> None:
        """A decoder that will not run in this step is written out; before `grow_decoders`."""
        offset = self.offset[i]
        known = self.known[i] = offset + self.step
        self.computed[i] = known - 1
        self.held[i] = -(-(known - 1) // self.block_size)
        self.where[i] = RESIDENT
        self.phase[offset % self.block_size] -= 1
        self.context -= known
        self.num_decoders -= 1

    def walk(self, order: Sequence[int], limit: int) -> tuple[int, list[tuple[int, int]]]:
        """Take requests from the head of `order` while slots (`limit`) and the token budget last.

        Returns how many are taken, and those that are not decoders, with their tokens. Every decoder takes
        one token, so only the others are looked at.
        """
        where, known, computed = self.where, self.known, self.computed
        others: list[tuple[int, int]] = []
        budget = self.max_tokens
        head = order if len(order) <= limit else order[:limit]
        for position, i in [(p, i) for p, i in enumerate(head) if where[i] != DECODING]:
            left = budget - (position - len(others))
            if left <= 0:
                break
            tokens = min(known[i] - computed[i], left)
            others.append((i, tokens))
            budget -= tokens
        return min(len(head), len(others) + budget), others

    def features(self, waiting: int, moved_blocks: int = 0) -> StepFeatures:
        """The cost model's view of the step: decoders and `chunks`."""
        P = S = 0
        Q = 0.0
        for i, tokens in self.chunks:
            P += tokens
            S += 1
            Q += tokens * (self.computed[i] + tokens / 2)
        seen, self.unseen = self.unseen, 0
        return StepFeatures(
            P, self.num_decoders, S, self.context, Q, waiting, moved_blocks * self.block_size, seen
        )

    # the rest of the Scheduler protocol

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """Repeats end with the first decoder, before KV blocks run short, and before a policy's change."""
        if self.slack < 0 or self.chunks or not self.num_decoders:
            return 1, float("inf")
        until, time = self.next_change()
        ends = self.ends
        while self.where[ends[0][1]] != DECODING or self.total[ends[0][1]] - self.offset[ends[0][1]] != ends[0][0]:
            heapq.heappop(ends)
        steps = min(ends[0][0], until) - self.step
        # in `block_size` steps every decoder takes one block
        safe = self.slack // self.num_decoders * self.block_size
        if safe + 1 < steps:
            left, size = self.slack % self.num_decoders, self.block_size
            k = safe
            while k < safe + size:
                left -= self.phase[(-self.step - k) % size]
                if left < 0:
                    break
                k += 1
            steps = min(steps, k + 1)
        return max(steps, 1), time

    def next_change(self) -> tuple[int, float]:
        """Step counter, and time, before which no priority changes by itself."""
        return 1 << 62, float("inf")

    def update(self, batch: Batch, now: float, steps: int = 1) -> Sequence[int]:
        size = self.block_size
        if steps > 1:
            cycles, rest = divmod(steps - 1, size)
            self.blocks_used += cycles * self.num_decoders
            for k in range(rest):
                self.blocks_used += self.phase[(-self.step - k) % size]
        self.step += steps
        self.context += steps * self.num_decoders
        finished: list[int] = []
        for i, tokens in self.chunks:
            self.computed[i] += tokens
            if self.computed[i] == self.known[i]:
                self.known[i] += 1
                if self.known[i] >= self.total[i]:
                    finished.append(i)
        ends = self.ends
        while ends and ends[0][0] <= self.step:
            end, i = heapq.heappop(ends)
            if self.where[i] == DECODING and self.total[i] - self.offset[i] == end:
                self.leave(i)
                finished.append(i)
        for i in finished:
            self.blocks_used -= self.held[i]
            self.where[i] = FINISHED
        self.unfinished -= len(finished)
        self.after_step(finished, now, steps)
        return finished

    @abstractmethod
    def after_step(self, finished: Sequence[int], now: float, steps: int) -> None:
        """These steps are done: forget what finished, requeue what needs it."""


def make_engine(trace: Trace, policy: Policy, config: EngineConfig, seed: int = 0) -> ForkEngine:
    """The fork's scheduler under this policy."""
    # the paths build on this module
    from simsched.engine.vllm_ltr_fcfs import FcfsEngine
    from simsched.engine.vllm_ltr_mlfq import MlfqEngine
    from simsched.engine.vllm_ltr_order import OrderedEngine

    if policy.name == "fcfs":
        return FcfsEngine(trace, config)
    if policy.name == "mlfq":
        parameters: Any = policy
        return MlfqEngine(trace, config, parameters.base_quantum, parameters.threshold)
    return OrderedEngine(trace, policy, config, seed)
