"""A request as a policy sees it, with every field settable."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field


class Blocks(tuple[Hashable, ...]):
    """The names of a prompt's blocks; satisfies `simsched.request.PromptBlocks`."""

    block_size = 16


@dataclass
class View:
    """Satisfies `simsched.request.RequestView`."""

    request_id: str = "r"
    arrival_time: float = 0.0
    num_prompt_tokens: int = 100
    score: float | None = 1.0
    predicted_class: int | None = 1
    predicted_length: float | None = 50.0
    length_quantiles: tuple[float, ...] | None = (50.0,)
    priority: int = 0
    tenant: str | None = None
    request_class: str | None = None
    slo_ttft: float | None = None
    slo_tpot: float | None = None
    deadline: float | None = None
    session_id: str | None = None
    turn: int | None = None
    session_service: float = 0.0
    session_wait: float = 0.0
    critical_path_service: float = 0.0
    num_cached_tokens: int = 0
    prompt_blocks: Blocks = field(default_factory=Blocks)
    num_output_tokens: int = 0
    num_computed_tokens: int = 0
    num_preemptions: int = 0
    attained_service: float = 0.0
    steps_run: int = 0
    steps_idle: int = 0
