"""Independent random streams of one seed, one per purpose: runs that differ in one thing share the rest."""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal[
    "arrivals", "prompts", "outputs", "ties", "predictor", "engine", "prefixes", "blocks",
    "turns", "first prompts", "think times", "uneven",
]  # fmt: skip
_KEYS: dict[Purpose, int] = {
    "arrivals": 0,
    "prompts": 1,
    "outputs": 2,
    "ties": 3,
    "predictor": 4,
    "engine": 5,
    "prefixes": 6,
    "blocks": 7,
    "turns": 8,
    "first prompts": 9,
    "think times": 10,
    "uneven": 11,
}


def stream(seed: int, purpose: Purpose) -> np.random.Generator:
    """The generator of this seed for this purpose; no other purpose's draws move it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_KEYS[purpose],)))
