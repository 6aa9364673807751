"""What all parts of the leaping engine share: requests, KV blocks, and the step that is being formed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from simsched.engine.arrival import Arrival
from simsched.engine.config import ResolvedConfig
from simsched.engine.recorder import Recorder
from simsched.engine.step_clock import StepClock
from simsched.engine.vllm_v1.discipline import FcfsOrder, QueueDiscipline
from simsched.engine.vllm_v1.leaping_request import LeapRequest


class LeapingState(ABC):
    """The leaping engine without its rules."""

    def __init__(self, config: ResolvedConfig, recorder: Recorder) -> None:
        self.recorder = recorder
        self.block_size = config.block_size
        self.max_running = config.max_running
        self.max_tokens = config.token_budget
        self.caching = config.enable_prefix_caching
        self.chunked = config.enable_chunked_prefill
        self.max_model_len = config.max_model_len
        self.long_prefill = config.long_prefill_token_threshold
        self.reserve = config.scheduler_reserve_full_isl
        self.watermark = int(config.watermark * config.num_gpu_blocks)
        self.walk_survives_self_preemption = False
        """Does a running request that preempts itself not end the step for those behind it?"""
        self.fills_answers = False
        """May others hit blocks of an answer while it is generated?"""

        self.clock = StepClock()
        self.total: list[int] = []
        """By number: prompt and output tokens of a request when it is done."""
        self.running: dict[int, LeapRequest] = {}
        """In order of admission."""
        self.partials: dict[int, LeapRequest] = {}
        """Of these, those in the midst of their prefill, or left out of the last step."""
        self.ending: dict[int, LeapRequest] = {}
        """Of these, those whose last token is on its way (asynchronous scheduling)."""
        self.num_waiting = 0
        """Without victims that are held."""
        self.num_new = 0
        """Who has arrived since the last step was formed."""
        self.order: QueueDiscipline = FcfsOrder(self.running)

        self.num_decoding = 0
        self.decode_context = 0
        """Tokens known of all decoding requests together."""
        self.growth_by_residue = [0] * config.block_size
        """How many decoding requests take a block in a step, by the step counter modulo the block size."""
        self.ends: list[int] = []
        """A heap of MANY * (step counter when it is done) + number, for the decoding requests; some stale."""
        self.num_blocks = config.num_gpu_blocks - 1
        self.free = self.num_blocks

        self.step_start = 0.0
        """When the step began that is over last."""

        # of the step that is being formed
        self.irregular: list[tuple[LeapRequest, int]] = []
        """All but the decoding requests, with their tokens."""
        self.preempted_this_step: list[LeapRequest] = []
        """Those it preempts."""

    @abstractmethod
    def add_request(self, arrival: Arrival, now: float) -> None:
        """It has arrived, and waits."""

    @abstractmethod
    def allocate(self, blocks: int) -> None:
        """So many blocks are allocated."""

    @abstractmethod
    def catch_up_cache(self) -> None:
        """What running requests have filled up to now can be hit from now on."""

    @abstractmethod
    def cached_tokens(self, request: LeapRequest) -> int:
        """How many tokens of a waiting request would be hit."""

    @abstractmethod
    def mark_cached(self, request: LeapRequest, tokens: int) -> None:
        """A request other than a decoding one has blocks for so many tokens."""

    def blocks_for(self, first: int, count: int) -> int:
        """Blocks that the decoding requests take in so many steps, from step counter `first` on."""
        size, growth_by_residue = self.block_size, self.growth_by_residue
        start = first % size
        end = start + count
        if end <= size:
            return sum(growth_by_residue[start:end])
        cycles, end = divmod(end - size, size)
        return sum(growth_by_residue[start:]) + cycles * sum(growth_by_residue) + sum(growth_by_residue[:end])

    @abstractmethod
    def leave_out(self, request: LeapRequest, now: float) -> None:
        """A decoding request gets nothing in this step."""

    @abstractmethod
    def preempt(self, victims: Sequence[LeapRequest], now: float, scheduled: int = 0) -> None:
        """By recompute; `scheduled`: tokens that this step had given them already."""

    @abstractmethod
    def turn_away(self, request: LeapRequest) -> None:
        """A waiting request is rejected."""
