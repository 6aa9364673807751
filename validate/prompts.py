"""Prompts and answers as token ids: random, and equal where the trace says that they are equal."""

from __future__ import annotations

import numpy as np

from simsched.workload.content import contents
from simsched.workload.trace import Trace


class TokenIds:
    """The tokens of a trace's requests, from the paths of `simsched.workload.content`."""

    def __init__(self, trace: Trace, vocabulary: int, seed: int = 0) -> None:
        self._prompts: list[int] = trace.num_prompt_tokens.tolist()
        self._answers: list[int] = trace.num_output_tokens.tolist()
        self._paths = contents(trace)
        self._vocabulary = vocabulary
        self._seed = seed
        self._said: dict[int, dict[int, list[int]]] = {}  # node -> from which of its tokens on -> real ones

    def prompt(self, index: int) -> list[int]:
        """The prompt of request `index`."""
        return self._tokens(index, self._prompts[index])

    def all(self, index: int) -> list[int]:
        """Its prompt and its answer."""
        return self._tokens(index, self._prompts[index] + self._answers[index])

    @property
    def share(self) -> bool:
        """May one prompt go on from another's answer?"""
        return self._paths is not None

    def answered(self, index: int, answer: list[int]) -> None:
        """A model has answered request `index` so: whoever's prompt goes on from it has these tokens."""
        if self._paths is None:
            return
        start, prompt = 0, self._prompts[index]
        for node, end in self._paths[index]:
            first = max(start, prompt)
            if first < end:
                self._said.setdefault(node, {})[first - start] = answer[first - prompt : end - prompt]
            start = end

    def _tokens(self, index: int, length: int) -> list[int]:
        path = [(index, length)] if self._paths is None else self._paths[index]
        tokens: list[int] = []
        for node, end in path:
            count = min(end, length) - len(tokens)
            if count > 0:
                # a node's first tokens are the same however many of them a request has
                stream = np.random.default_rng([self._seed, node])
                made = stream.integers(3, self._vocabulary, count).tolist()
                for first, said in self._said.get(node, {}).items():
                    made[first : first + len(said)] = said[: max(0, count - first)]
                tokens += made
        return tokens
