"""What a policy that decides more than an order may see of its engine.

`EngineView` is the whole of it, in the simulator and inside vLLM alike, and read-only. It holds request
views, so nothing of the answers that are still to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from simsched.request import RequestView


class EngineView(Protocol):
    """An engine between two steps, as the policy's decisions about the next one find it.

    Lists are in the policy's order, the best first. They are made when asked for, which costs a sort.
    """

    @property
    def now(self) -> float:
        """Seconds on the run's clock."""

    @property
    def running(self) -> Sequence[RequestView]:
        """Requests that have a place and KV blocks."""

    @property
    def let_in(self) -> Sequence[RequestView]:
        """Requests that `admit` has let in and that have no place yet; empty for a policy without it."""

    @property
    def waiting(self) -> Sequence[RequestView]:
        """All others that have arrived: held, or not asked about yet."""

    @property
    def num_running(self) -> int: ...
    @property
    def num_let_in(self) -> int: ...
    @property
    def num_waiting(self) -> int: ...
    @property
    def num_decodes(self) -> int:
        """Running requests that have nothing left to prefill: they get one token each in a step. Costs no
        look at each."""

    @property
    def decode_context(self) -> int:
        """Tokens known of all of these together, once those under way have come (`context` of
        `batch_time`)."""

    @property
    def num_steps(self) -> int:
        """Steps that are over: nobody has got more tokens than that since."""

    @property
    def num_free_blocks(self) -> int:
        """KV blocks that no request holds; cached ones, which can be evicted, among them."""

    @property
    def num_evictable_blocks(self) -> int:
        """Of those, the ones that hold cached content. The simulator steps for a policy that asks."""

    @property
    def num_blocks(self) -> int:
        """KV blocks that requests may hold in all."""

    @property
    def block_size(self) -> int:
        """Tokens in a KV block."""

    @property
    def max_num_seqs(self) -> int:
        """Places: the most requests that run at once."""

    @property
    def max_num_batched_tokens(self) -> int:
        """The most tokens of a step, whatever `token_budget` says."""

    @property
    def long_prefill_token_threshold(self) -> int:
        """The engine's own chunk cap; 0: none."""

    @property
    def max_model_len(self) -> int:
        """The most tokens of a request, prompt and answer."""

    def batch_time(
        self,
        decodes: int = 0,
        context: int = 0,
        prefill_tokens: int = 0,
        chunks: int = 0,
        pairs: float = 0.0,
    ) -> float:
        """Predicted seconds of a step, by the run's cost model.

        Args:
            decodes: requests that get one token each (N).
            context: tokens known of all of them together (K).
            prefill_tokens: tokens of prefill chunks (P).
            chunks: how many chunks these are (S).
            pairs: sum over them of chunk * (computed before + chunk / 2) (Q).

        Raises:
            InputError: there is no cost model (in real vLLM: the setting `cost_profile`).
        """
