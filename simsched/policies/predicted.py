"""Reading a predicted column of the trace."""

from __future__ import annotations

from simsched.errors import InputError
from simsched.request import RequestView


def needed(value: float | None, column: str, request: RequestView) -> float:
    """The value, which the policy cannot do without.

    Raises:
        InputError: the request has none.
    """
    if value is None:
        raise InputError(
            f"request {request.request_id}: no {column}; expected a trace with one, or a predictor"
        )
    return value
