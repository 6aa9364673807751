"""Thread-level attained service of Autellix, for programs whose calls run in parallel (arXiv 2502.13965)."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from simsched.policies.base import register
from simsched.policies.plas import Plas
from simsched.request import RequestView


@register("atlas")
@dataclass(eq=False)
class Atlas(Plas):
    """The session goes first whose critical path has been served least: as `plas`, but a call starts with the
    service of the longest chain of calls that led to it, the largest sum over its parents of what the parent
    started with and attained. What siblings attain does not count, so that a session which fans out does not
    sink for its width.

    Promotion is that of `plas`, by what the whole session has waited and been served.
    """

    def service_before(self, request: RequestView) -> float:
        return request.critical_path_service
