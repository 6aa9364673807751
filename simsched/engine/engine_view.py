"""What all engines' views have in common (`simsched.policies.engine_view.EngineView`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from simsched.cost_model.base import CostModel, StepFeatures, make_features
from simsched.errors import InputError
from simsched.request import RequestView, left_to_compute


class ViewOfEngine(ABC):
    """The engine's options and its cost model; what changes is the engine's own."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        long_prefill_token_threshold: int,
        max_model_len: int,
    ) -> None:
        self.now = 0.0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.long_prefill_token_threshold = long_prefill_token_threshold
        self.max_model_len = max_model_len
        self._cost: CostModel | None = None

    def take_cost(self, cost: CostModel) -> None:
        """From now on batches are priced by this model."""
        self._cost = cost

    def batch_time(
        self,
        decodes: int = 0,
        context: int = 0,
        prefill_tokens: int = 0,
        chunks: int = 0,
        pairs: float = 0.0,
    ) -> float:
        """Predicted seconds of a step.

        Raises:
            InputError: there is no cost model.
        """
        if self._cost is None:
            raise InputError(
                "batch_time: the engine has no cost model; expected the setting cost_profile "
                "(additional_config={'simsched': {'cost_profile': ...}})"
            )
        batch = prefill_tokens, decodes, chunks, context, pairs, 0, 0, 0, 0, 0, 0
        return self._cost.step_time(make_features(StepFeatures, batch))

    @property
    @abstractmethod
    def running(self) -> Sequence[RequestView]:
        """Requests that have a place, in order."""

    @property
    @abstractmethod
    def let_in(self) -> Sequence[RequestView]:
        """Those let in that have none yet."""

    @property
    @abstractmethod
    def waiting(self) -> Sequence[RequestView]:
        """All others."""

    @property
    @abstractmethod
    def num_running(self) -> int:
        """How many have a place."""

    @property
    @abstractmethod
    def num_let_in(self) -> int:
        """How many are let in and have none yet."""

    @property
    @abstractmethod
    def num_waiting(self) -> int:
        """How many others."""

    @property
    def num_decodes(self) -> int:
        """How many of the running ones have nothing left to prefill."""
        return sum(left_to_compute(each) <= 1 for each in self.running)

    @property
    def decode_context(self) -> int:
        """Tokens known of these together, as the next step finds them."""
        return sum(each.num_computed_tokens + 1 for each in self.running if left_to_compute(each) <= 1)

    @property
    @abstractmethod
    def num_steps(self) -> int:
        """How many steps are over."""

    @property
    @abstractmethod
    def num_free_blocks(self) -> int:
        """KV blocks that no request holds."""

    @property
    @abstractmethod
    def num_evictable_blocks(self) -> int:
        """Of those, the cached ones."""
