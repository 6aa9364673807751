"""Text features of the `light` ranker: counts of word and character patterns, each known by a 64-bit key.

What matters for length is what is asked for (the first words, and which words go with them), so places and
pairs are features beside plain n-grams.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np

from simsched.workload.trace import FloatArray, IntArray

MAX_CHARACTERS = 4_000  # of a prompt; its start says what is asked
_WORD = re.compile(r"\w+|[^\w\s]")

# Each kind of pattern is a block of unit length times its weight in a prompt's vector. The weights were
# chosen on a part of the Vicuna/Alpaca training split.
WEIGHTS = {"words": 1.0, "characters": 0.5, "places": 0.7, "starts": 0.7, "skips": 0.5, "line": 0.7}
SHAPE_WEIGHT = 0.1
NUM_SHAPE = 9


class Patterns(NamedTuple):
    """The patterns of n prompts, prompt after prompt: key, count, and where each prompt's end."""

    keys: IntArray
    """The kind (its number in `WEIGHTS`) in the upper 32 bits, a CRC of the pattern in the lower."""
    counts: FloatArray
    ends: IntArray
    """Shape (n + 1,), from 0."""


def find_patterns(prompts: Sequence[str]) -> Patterns:
    """Every pattern of every prompt."""
    keys: list[int] = []
    counts: list[int] = []
    ends = [0]
    for prompt in prompts:
        for block, found in enumerate(_patterns(prompt)):
            counted = Counter(found)
            keys += [(block << 32) + crc32(pattern.encode()) for pattern in counted]
            counts += counted.values()
        ends.append(len(keys))
    return Patterns(np.array(keys, dtype=np.int64), np.array(counts, dtype=np.float64), np.array(ends))


def shape(prompts: Sequence[str]) -> FloatArray:
    """Size and make-up of each prompt, shape (n, NUM_SHAPE)."""
    return np.array([_shape(prompt) for prompt in prompts])


def _patterns(prompt: str) -> Iterator[list[str]]:
    """The patterns of each kind, in the order of `WEIGHTS`, in lower case."""
    text = prompt[:MAX_CHARACTERS].lower().encode(errors="replace").decode()
    words = _WORD.findall(text)
    yield [gram for n in (1, 2, 3) for gram in _grams(["<", *words, ">"], n)]
    yield [gram for word in text.split() for n in (2, 3, 4, 5) for gram in _letters(f" {word} ", n)]
    yield [
        *(f"{i} {word}" for i, word in enumerate(words[:6])),
        *(f"-{i} {word}" for i, word in enumerate(words[:-4:-1])),
    ]
    yield [f"{first} {other}" for i, first in enumerate(words[:3]) for other in {*words[i + 1 : 40]}]
    yield [f"{a} {b}" for gap in (2, 3, 4) for a, b in zip(words[:60], words[gap:60], strict=False)]
    # the first line alone: the instruction, where an input follows
    line = _WORD.findall(text.partition("\n")[0])
    yield [gram for n in (1, 2) for gram in _grams(["<", *line, ">"], n)]


def _shape(prompt: str) -> list[float]:
    size = max(1, len(prompt))
    return [
        np.log1p(len(prompt)),
        np.log1p(len(prompt.split())),
        np.log1p(prompt.count("\n")),
        float("\n" in prompt),
        float("?" in prompt),
        sum(map(str.isdigit, prompt)) / size,
        sum(map(str.isupper, prompt)) / size,
        np.log1p(prompt.count(",")),
        float('"' in prompt),
    ]


def _grams(words: Sequence[str], n: int) -> Iterator[str]:
    return (" ".join(words[i : i + n]) for i in range(len(words) - n + 1))


def _letters(word: str, n: int) -> Iterator[str]:
    return (word[i : i + n] for i in range(len(word) - n + 1))
