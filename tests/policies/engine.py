"""An engine as a policy sees it, with every field settable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Engine:
    """Satisfies `simsched.policies.engine_view.EngineView`."""

    now: float = 0.0
    running: list[Any] = field(default_factory=list)
    let_in: list[Any] = field(default_factory=list)
    waiting: list[Any] = field(default_factory=list)
    num_steps: int = 0
    num_free_blocks: int = 0
    num_evictable_blocks: int = 0
    num_blocks: int = 100
    block_size: int = 1
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 100_000
    long_prefill_token_threshold: int = 0
    max_model_len: int = 100_000
    time: Callable[..., float] = lambda decodes, context, tokens, chunks, pairs: 0.01 + 0.001 * tokens

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def num_let_in(self) -> int:
        return len(self.let_in)

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def num_decodes(self) -> int:
        return len(self._decodes())

    @property
    def decode_context(self) -> int:
        return sum(each.num_computed_tokens + 1 for each in self._decodes())

    def _decodes(self) -> list[Any]:
        return [
            each
            for each in self.running
            if each.num_prompt_tokens + each.num_output_tokens - each.num_computed_tokens <= 1
        ]

    def batch_time(
        self,
        decodes: int = 0,
        context: int = 0,
        prefill_tokens: int = 0,
        chunks: int = 0,
        pairs: float = 0.0,
    ) -> float:
        return self.time(decodes, context, prefill_tokens, chunks, pairs)
