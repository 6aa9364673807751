"""Prompts that share prefixes: a system prompt, and conversations whose prompts hold the earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from simsched.streams import stream
from simsched.workload.trace import IntArray


@dataclass(frozen=True)
class Conversations:
    """Every prompt begins with the same block; some go on from an earlier one.

    A prompt that goes on takes over all full blocks of the earlier prompt. That one lies a lognormal
    number of requests back; of the few there, it is the longest that fits, so lengths keep their
    distribution.
    """

    block_size: int
    """Tokens a block."""
    share: float
    """Of all requests, how many go on from another."""
    gap: float
    """Median number of requests between the two."""
    spread: float
    """Log standard deviation of that number."""
    reach: int
    """Requests on either side of that place that are looked at."""

    def hash_ids(self, num_prompt_tokens: IntArray, seed: int) -> list[tuple[int, ...]]:
        """The blocks of each prompt: equal ids, equal prefix. The first ones do not depend on later ones."""
        n = len(num_prompt_tokens)
        draws = stream(seed, "prefixes").standard_normal((n, 2))
        continues = draws[:, 0] < NormalDist().inv_cdf(self.share)
        gaps = self.gap * np.exp(self.spread * draws[:, 1])
        blocks = (-(-num_prompt_tokens // self.block_size)).tolist()
        chains: list[tuple[int, ...]] = []
        unused = 1
        for i, (goes_on, gap, count) in enumerate(
            zip(continues.tolist(), gaps.tolist(), blocks, strict=True)
        ):
            prefix: tuple[int, ...] = (0,)
            if goes_on:
                place = i - max(1, round(gap))
                around = range(max(0, place - self.reach), min(i, place + self.reach + 1))
                fitting = [j for j in around if blocks[j] <= count]
                if fitting:
                    prefix = chains[max(fitting, key=blocks.__getitem__)][:-1] or prefix
            own = count - len(prefix)
            chains.append(prefix + tuple(range(unused, unused + own)))
            unused += own
        return chains
