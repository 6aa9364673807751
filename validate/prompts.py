"""Prompts as token ids: random, and equal where the trace says that prefixes are equal."""

from __future__ import annotations

import numpy as np

from simsched.workload.trace import Trace


def prompt_tokens(trace: Trace, index: int, vocabulary: int, seed: int = 0) -> list[int]:
    """The prompt of request `index`: a chunk's tokens follow from its hash id, all others are its own."""
    length = int(trace.num_prompt_tokens[index])
    tokens: list[int] = []
    if trace.hash_ids is not None and trace.hash_block_size is not None:
        for hash_id in trace.hash_ids[index]:
            stream = np.random.default_rng([seed, 1, hash_id])
            tokens += stream.integers(3, vocabulary, trace.hash_block_size).tolist()
    if len(tokens) < length:
        stream = np.random.default_rng([seed, 0, index])
        tokens += stream.integers(3, vocabulary, length - len(tokens)).tolist()
    return tokens[:length]
