"""What a step costs the host, and which batches run as CUDA graphs.

A step uses two resources. The device runs its kernels (`models.py`); the host forms the batch, prepares its
inputs and launches those kernels, and later hands out the tokens. How long a launch takes depends first on
how the batch runs: replayed as one CUDA graph, as graphs between the attention calls, or kernel by kernel.

    launch  = speed · (base[mode] + per_sequence·N + per_chunk·S + per_prefill_token·P)
    before  = speed · (b + share·(per_sequence·N + per_chunk·S)), at most launch: until its first
              kernel starts
    output  = speed · output_per_sequence·(N + S): from a step's end until its tokens are out; part of the
              launch of the step after the next

Which mode a batch gets, and to which size its tokens are padded: vllm/v1/worker/gpu/cudagraph_utils.py and
`_set_cudagraph_sizes` in vllm/config/vllm.py, vLLM 0.32.0.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import fields, replace
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from simsched.cost_model.base import StepFeatures
from simsched.cost_model.models import STRICT, LinearCost, Seconds, TableCost

CAPTURE_LIMIT = 512
"""Most tokens in a CUDA graph that vLLM captures by default (1,024 on Blackwell)."""


class LaunchMode(IntEnum):
    """How a batch reaches the device; vLLM's `CUDAGraphMode` of one batch."""

    FULL = 0
    """One CUDA graph for the whole step: one token a request."""
    PIECEWISE = 1
    """Graphs between the attention calls."""
    NONE = 2
    """Kernel by kernel."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HostCost:
    """Host times of a step, in seconds."""

    full: Seconds
    """Launch of a batch that is one CUDA graph."""
    piecewise: Seconds
    """Launch of a batch in piecewise graphs."""
    none: Seconds
    """Launch of a batch without graphs."""
    per_sequence: Seconds = 0.0
    """Launch, per decode (N)."""
    per_chunk: Seconds = 0.0
    """Launch, per prefill chunk (S)."""
    per_prefill_token: Seconds = 0.0
    """Launch, per prefill token (P)."""
    before_first_kernel: tuple[Seconds, Annotated[float, Field(ge=0, le=1)]] = (0.0, 0.0)
    """Of a launch, what comes before the device has anything to do: seconds, and the share of the terms per
    sequence and per chunk."""
    output_per_sequence: Seconds = 0.0
    """Output handling after a step, per sequence in it (N + S), until its tokens are out."""
    tail: Seconds = 0.0
    """Device work after the last launch of a batch that is not one graph: it ends no earlier than so."""
    copy: Seconds = 0.0
    """From the device's end of a step until the host has its tokens."""
    sd: float = Field(0.0, ge=0, le=2)
    """Standard deviation of the logarithm of a launch's time around its run's level (not of full graphs);
    0: none."""
    speed: float = Field(1.0, gt=0, le=1e6)
    """Multiplies every host time but `tail` and `copy`: 2 is a host that takes twice as long."""
    provenance: str = ""
    """On which machine, with which vLLM, how sure."""

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.full <= 0:
            raise ValueError("the launch of a full CUDA graph must take more than 0 s")
        return self

    def launch(self, features: StepFeatures, mode: LaunchMode) -> float:
        """Seconds from the end of the step before the last until all of this batch is launched."""
        return self.launch_times(features, mode)[0]

    def before(self, features: StepFeatures, mode: LaunchMode) -> float:
        """Of those, the seconds until the device may begin."""
        return self.launch_times(features, mode)[1]

    def output(self, features: StepFeatures) -> float:
        """Seconds from the end of a step until its tokens are out."""
        return self.speed * (self.output_per_sequence * (features.N + features.S))

    def launch_times(self, features: StepFeatures, mode: LaunchMode) -> tuple[float, float]:
        """`launch` and `before`, seconds."""
        P, N, S = features[:3]
        base = (self.full, self.piecewise, self.none)[mode]
        sequences, chunks = self.per_sequence * N, self.per_chunk * S
        launch = self.speed * (base + sequences + chunks + self.per_prefill_token * P)
        first, share = self.before_first_kernel
        return launch, min(self.speed * (first + share * (sequences + chunks)), launch)

    def scaled(self, factor: float) -> Self:
        """The same costs with every time multiplied by `factor`, say to change their unit."""
        base, share = self.before_first_kernel
        times = {name: getattr(self, name) * factor for name in _TIMES}
        return replace(self, before_first_kernel=(base * factor, share), **times)

    def to_json(self) -> dict[str, Any]:
        """A profile's `host` block, in seconds."""
        return {"unit": "s", **{each.name: getattr(self, each.name) for each in fields(self)}}


_TIMES = (
    "full",
    "piecewise",
    "none",
    "per_sequence",
    "per_chunk",
    "per_prefill_token",
    "output_per_sequence",
    "tail",
    "copy",
)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Graphs:
    """The CUDA graphs that an engine captures, by its options."""

    full: Literal["max_num_seqs"] | Annotated[int, Field(ge=0, le=2**20)] = "max_num_seqs"
    """Most requests of one token each that run as one graph."""
    piecewise: Literal["min(2*max_num_seqs, 512)"] | Annotated[int, Field(ge=0, le=2**20)] = (
        "min(2*max_num_seqs, 512)"
    )
    """Most tokens that run in piecewise graphs; also the largest graph (`max_cudagraph_capture_size`)."""

    def capture(self, max_num_seqs: int, max_num_batched_tokens: int) -> Capture:
        """The graphs of an engine with these options."""
        return _capture(self, max_num_seqs, max_num_batched_tokens)

    def to_json(self) -> dict[str, Any]:
        """A profile's `graphs` block."""
        return {"full": self.full, "piecewise": self.piecewise}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Capture:
    """The CUDA graphs of one engine."""

    sizes: tuple[int, ...]
    """In tokens, increasing; empty where nothing is captured."""
    full: int
    """Most requests of one token each that run as one graph."""
    piecewise: int
    """Most tokens that run in piecewise graphs."""

    def mode(self, features: StepFeatures) -> LaunchMode:
        """How a batch with these features runs. A chunk of one token counts as a decode does."""
        tokens = features.P + features.N
        if features.P == features.S and tokens <= self.full:
            return LaunchMode.FULL
        return LaunchMode.PIECEWISE if tokens <= self.piecewise else LaunchMode.NONE

    @cached_property
    def sizes_of(self) -> list[int]:
        """The tokens that the device computes for 0, 1, ... tokens, up to the largest graph."""
        sizes = self.sizes
        return [0, *(sizes[bisect_left(sizes, tokens)] for tokens in range(1, self.piecewise + 1))]

    def padded(self, tokens: int) -> int:
        """The tokens that the device computes: those of the next graph size, or as many where no graph is."""
        return self.sizes_of[tokens] if tokens <= self.piecewise else tokens


@lru_cache
def _capture(graphs: Graphs, max_num_seqs: int, max_num_batched_tokens: int) -> Capture:
    """`Graphs.capture`; all replicas ask for the same one, and its tables take time."""
    piecewise = graphs.piecewise
    largest = min(2 * max_num_seqs, CAPTURE_LIMIT) if isinstance(piecewise, str) else piecewise
    largest = min(largest, max_num_batched_tokens)
    full = max_num_seqs if isinstance(graphs.full, str) else graphs.full
    sizes = [size for size in (1, 2, 4, *range(8, 256, 8)) if size <= largest]
    sizes += range(256, largest + 1, 16)
    # vLLM captures its largest batches even where they are off the grid
    extra = (size for size in (max_num_batched_tokens, max_num_seqs) if size <= largest)
    sizes = sorted({*sizes, *extra})
    largest = sizes[-1] if sizes else 0
    return Capture(sizes=tuple(sizes), full=min(full, largest), piecewise=largest)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HostedCost:
    """Device and host together: what `simulate` takes where a profile has a `host` block."""

    device: LinearCost | TableCost
    """Seconds on the device, of a batch's padded tokens."""
    host: HostCost
    graphs: Graphs = Graphs()
