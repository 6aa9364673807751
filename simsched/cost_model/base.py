"""What a step costs: the features of a batch, and the interface of every cost model.

Symbols are the published ones: P prefill tokens, N decode sequences, S prefill chunks, K summed decode
context (tokens), Q the sum over prefill chunks of chunk * (prior + chunk / 2).
A request is a decode if one token is computed, it has output and C + 1 = N_tokens before the step;
everything else is prefill.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class StepFeatures(NamedTuple):
    """The features of one step. `num_waiting` and `swapped_tokens` matter only to models that price them."""

    P: int = 0
    N: int = 0
    S: int = 0
    K: int = 0
    Q: float = 0.0
    num_waiting: int = 0
    """Unfinished requests that are not in the batch."""
    swapped_tokens: int = 0
    """KV tokens (blocks times block size) moved over PCIe, in and out."""
    num_predicted: int = 0
    """Requests seen for the first time by the predictor in this step."""
    num_ordered: int = 0
    """Requests that the fork's general path sorted for this step."""
    num_compared: int = 0
    """Pairs of requests that its membership tests in lists compared."""
    padding: int = 0
    """Numbers that its sampler pads prompts and outputs with, to the longest of each in the batch."""


make_features = tuple.__new__
"""`StepFeatures` from a tuple of all its fields, in half the time."""


class CostModel(Protocol):
    """Seconds for a step. Affine in K, so that k decode steps of one batch have a closed-form sum."""

    def step_time(self, features: StepFeatures) -> float:
        """Seconds for one step with these features."""

    def decode_line(
        self, N: int, num_waiting: int, num_ordered: int = 0, num_compared: int = 0, padding: int = 0
    ) -> tuple[float, float]:
        """`(base, slope)`: a step of N decodes and nothing else takes `base + slope * K` seconds."""
