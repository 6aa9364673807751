"""Requests as a router sees them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simsched.workload.content import Stretch


def blocks(*edges: int, size: int = 16) -> tuple[Stretch, ...]:
    """A shared beginning of so many blocks."""
    return tuple(Stretch(edge, (at + 1) * size) for at, edge in enumerate(edges))


@dataclass
class Request:
    """Fields of `simsched.routers.base.RoutedRequest`, with defaults."""

    request_id: str = "0"
    num_prompt_tokens: int = 100
    prefix: Sequence[Stretch] = ()
    session_id: str | None = None
    predicted_length: float | None = None
    arrival_time: float = 0.0
    score: float | None = None
    predicted_class: int | None = None
    priority: int = 0
    tenant: str | None = None
