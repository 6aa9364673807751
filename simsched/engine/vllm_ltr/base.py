"""The paper's fork of vLLM 0.4.1 (hao-ai-lab/vllm-ltr @ 13bbf6f): what its three schedulers share.

A request on the GPU that decodes in every step is a *decoding request*. They cost nothing per step: each is
kept as an offset from the step counter, their context is one sum, the blocks they take are counted by residue
(tokens modulo the block size), and the step in which they finish is known. A request that stops running is
written out again.

The paths: FCFS (`fcfs.py`), MLFQ's queues (`mlfq.py`), and for every other policy a general one
(`by_policy.py`); the last two share `sorted_walk.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from simsched.cost_model.base import StepFeatures
from simsched.engine.agenda import Agenda
from simsched.engine.arrival import Arrival
from simsched.engine.base import Batch
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.request_status import DECODING, FINISHED, RESIDENT, WAITING
from simsched.engine.vllm_ltr.padding_width import PaddingWidth
from simsched.errors import InputError


class LtrEngine(ABC):
    """Requests, KV blocks and step counter; subclasses form the batch.

    Without `leap` no batch repeats, and batches name their requests.
    """

    swaps = True
    step_ends: list[float] | None = None

    def __init__(self, config: ResolvedConfig, recorder: Recorder, *, leap: bool) -> None:
        self.config = config
        self.recorder = recorder
        self.leap = leap
        self.now = 0.0
        self.block_size = config.block_size
        self.num_blocks = config.num_gpu_blocks
        self.watermark = int(config.watermark * config.num_gpu_blocks)
        self.max_num_seqs = config.max_num_seqs
        self.max_tokens = config.max_num_batched_tokens
        self.max_model_len = config.max_model_len
        # of each request, by its number
        self.prompt: list[int] = []
        self.total: list[int] = []
        # of a decoding request: not kept up to date, see `offset`
        self.known: list[int] = []
        self.computed: list[int] = []
        self.held: list[int] = []
        self.where: list[int] = []
        # of a decoding request: known tokens minus the step counter
        self.offset: list[int] = []
        self.step = 0
        self.num_decoding = 0
        self.decode_context = 0
        """Known tokens of all decoding requests: K of a step in which they all run."""
        self.growth_by_residue = [0] * config.block_size
        self.ends = Agenda[int, int]()
        """Decoding requests by the step counter at which they are done; past decoding requests are void."""
        self.blocks_used = 0
        self.unfinished = 0
        self.chunks: list[tuple[int, int]] = []
        """The prefill chunks of the current step: (request, tokens)."""
        self.fresh: list[int] = []
        """Requests whose prompt was done in the last step: it gave them a token."""
        self.resumed: list[int] = []
        """Decoding requests whose last token is older than one step."""
        self.predicted = False
        """Does a predictor score each request when it is first seen?"""
        self.unseen = 0
        """Arrivals that it has not scored."""
        self.padding: PaddingWidth | None = None
        """Of the decoding requests; None: nobody asks."""
        self.slack = -1
        """Blocks that repeats of the current batch may take; negative: it may not repeat."""
        self.counters: dict[str, int] = {"swapped_out": 0, "swapped_in": 0, "recomputed": 0, "skipped": 0}

    def measure_padding(self) -> None:
        """Tell what the sampler pads from now on; before any request."""
        self.padding = PaddingWidth(self.prompt, self._lead)

    def _lead(self, i: int) -> int | None:
        return self.offset[i] - self.prompt[i] if self.where[i] == DECODING else None

    def _padding(self) -> int:
        """Numbers that the sampler pads with, in this step."""
        if self.padding is None:
            return 0
        prompt, output = self.padding.prompt(), self.padding.output(self.step)
        for i, _ in self.chunks:
            prompt = max(prompt, self.prompt[i])
            output = max(output, self.known[i] - self.prompt[i])
        return (self.num_decoding + len(self.chunks)) * (prompt + output) - self.decode_context

    def add_request(self, arrival: Arrival, now: float) -> None:
        """A request has arrived; what is now waiting is seen, and scored, in the next step."""
        number, prompt = len(self.prompt), arrival.num_prompt_tokens
        self.prompt.append(prompt)
        self.total.append(min(prompt + arrival.num_output_tokens, self.max_model_len))
        self.known.append(prompt)
        for column in (self.computed, self.held, self.offset):
            column.append(0)
        self.where.append(WAITING)
        self.unfinished += 1
        if self.predicted:
            self.unseen += 1
        self.arrived(number, arrival, now)

    @abstractmethod
    def arrived(self, number: int, arrival: Arrival, now: float) -> None:
        """The request of this number joins the waiting ones."""

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

    @property
    def num_free_blocks(self) -> int:
        return self.num_blocks - self.blocks_used

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

    def grow_decoding(self) -> None:
        """Give each decoding request that outgrew its blocks another; once a step, before new ones join."""
        self.blocks_used += self.growth_by_residue[(1 - self.step) % self.block_size]

    def growth(self) -> int:
        """Blocks that `grow_decoding` would take."""
        return self.growth_by_residue[(1 - self.step) % self.block_size]

    def join(self, residents: Sequence[int]) -> None:
        """Residents about to decode become decoding requests."""
        step, size, growth_by_residue, fresh = self.step, self.block_size, self.growth_by_residue, self.fresh
        for i in residents:
            known = self.known[i]
            blocks = -(-known // size)
            if blocks > self.held[i]:
                self.blocks_used += blocks - self.held[i]
            self.where[i] = DECODING
            offset = self.offset[i] = known - step
            growth_by_residue[offset % size] += 1
            self.decode_context += known
            self.ends.push(self.total[i] - offset, i)
            if i not in fresh:
                self.resumed.append(i)
        self.num_decoding += len(residents)
        if self.padding is not None:
            self.padding.join(residents)

    def pause(self, decoding: Sequence[int]) -> None:
        """These will not run in this step; before `grow_decoding`."""
        self._write_out(decoding)
        self.recorder.pause_all(decoding, self.now)

    def _write_out(self, decoding: Sequence[int]) -> None:
        step, size, growth_by_residue = self.step, self.block_size, self.growth_by_residue
        for i in decoding:
            offset = self.offset[i]
            known = self.known[i] = offset + step
            self.computed[i] = known - 1
            self.held[i] = -(-(known - 1) // size)
            self.where[i] = RESIDENT
            growth_by_residue[offset % size] -= 1
            self.decode_context -= known
        self.num_decoding -= len(decoding)

    def make_batch(
        self,
        decodes: Sequence[int],
        preempted: Sequence[int] = (),
        swapped_out: Sequence[int] = (),
        swapped_in: Sequence[int] = (),
    ) -> Batch:
        """The step as decided: the prefill chunks in `chunks`, then these decodes."""
        for i in self.fresh:
            if self.where[i] != DECODING:
                self.recorder.pause(i, self.now)
        self.fresh = []
        P = sum(tokens for _, tokens in self.chunks)
        Q = sum(tokens * (self.computed[i] + tokens / 2) for i, tokens in self.chunks)
        count = len(self.chunks) + self.num_decoding
        moved = sum(self.held[i] for i in swapped_out) + sum(self.held[i] for i in swapped_in)
        seen, self.unseen = self.unseen, 0
        features = StepFeatures(
            P,
            self.num_decoding,
            len(self.chunks),
            self.decode_context,
            Q,
            self.unfinished - count,
            moved * self.block_size,
            seen,
            *self.list_work(count),
            self._padding(),
        )
        scheduled: dict[int, int] = {}
        if not self.leap:
            scheduled = dict(self.chunks)
            scheduled.update(dict.fromkeys(decodes, 1))
        return Batch(
            features,
            scheduled,
            preempted,
            sorted(swapped_out),
            sorted(swapped_in),
            self.num_running,
            self.num_waiting,
            self.blocks_used,
        )

    def list_work(self, batch: int) -> tuple[int, int]:
        """What the fork's scheduler does in Python for a batch of this size: requests sorted, pairs of
        requests compared in membership tests."""
        return 0, 0

    def stuck(self) -> InputError:
        """What to raise when an idle engine can't serve what it has."""
        return InputError(
            f"--num-gpu-blocks {self.num_blocks}: a request needs more KV blocks than there are; "
            "expected more blocks, or shorter requests"
        )

    # the rest of the Scheduler protocol

    def max_steps(self, batch: Batch) -> tuple[int, float]:
        """Until a decoding request finishes, KV blocks may run short, or a policy's change comes."""
        if not self.leap or self.slack < 0 or self.chunks or self.resumed or not self.num_decoding:
            return 1, float("inf")
        until, time = self.next_change()
        steps = min(self.ends.first(self._is_end, until), until) - self.step
        # in `block_size` steps every decoding request takes one block
        size = self.block_size
        blocks = self.slack % self.num_decoding
        fit = self.slack // self.num_decoding * size
        if fit + 1 < steps:
            growth = self.growth_by_residue
            while fit + 1 < steps and (blocks := blocks - growth[(-self.step - fit) % size]) >= 0:
                fit += 1
            steps = fit + 1
        return max(steps, 1), time

    def _is_end(self, end: int, i: int) -> bool:
        return self.where[i] == DECODING and self.total[i] - self.offset[i] == end

    def next_change(self) -> tuple[int, float]:
        """Step counter, and time, before which no priority changes by itself."""
        return 1 << 62, float("inf")

    def update(self, batch: Batch, now: float, first: float, last: float, steps: int = 1) -> Sequence[int]:
        self.now = now
        recorder = self.recorder
        recorder.steps(first, last, steps, self.num_decoding - len(self.resumed))
        for i in self.resumed:
            recorder.token(i, now)
        self.resumed = []
        if steps > 1:
            cycles, rest = divmod(steps - 1, self.block_size)
            self.blocks_used += cycles * self.num_decoding
            for k in range(rest):
                self.blocks_used += self.growth_by_residue[(-self.step - k) % self.block_size]
        self.step += steps
        self.decode_context += steps * self.num_decoding
        finished: list[int] = []
        for i, tokens in self.chunks:
            self.computed[i] += tokens
            if self.computed[i] == self.known[i]:
                recorder.token(i, now)
                self.known[i] += 1
                (finished if self.known[i] == self.total[i] else self.fresh).append(i)
        done = [i for i in dict.fromkeys(self.ends.due(self.step)) if self._is_end(self.step, i)]
        self._write_out(done)
        finished += sorted(done)
        for i in finished:
            self.blocks_used -= self.held[i]
            self.where[i] = FINISHED
            recorder.finish(i, now)
        self.unfinished -= len(finished)
        self.after_step(finished, steps)
        return finished

    @abstractmethod
    def after_step(self, finished: Sequence[int], steps: int) -> None:
        """These steps are done (it is `self.now`): forget what finished, requeue what needs it."""
