"""Where a request of a leaping engine is; plain numbers: an enum's compare four times slower."""

from __future__ import annotations

from typing import Final

WAITING: Final = 0
DECODING: Final = 1
"""Running, with a token in every step; not touched until something happens to it."""
RESIDENT: Final = 2
"""It has its KV blocks, but does not decode in every step: it is in its prompt, or was left out of a step."""
ENDING: Final = 3
"""Running, with its last token on its way (asynchronous scheduling of vLLM V1)."""
SWAPPED: Final = 4
"""Its KV blocks are in the host's memory (the fork)."""
FINISHED: Final = 5
