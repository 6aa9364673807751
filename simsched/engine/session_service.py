"""What each session has had of an engine so far: the service of its turns that are done there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Turn(Protocol):
    """What is read and written of a request."""

    session_seconds: float

    @property
    def request_id(self) -> str: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def attained_service(self) -> float: ...


class SessionService:
    """Keeps `session_service` of all unfinished requests: seconds of steps in which earlier turns ran."""

    def __init__(self) -> None:
        self._service: dict[str, float] = {}
        self._turns: dict[str, dict[str, Turn]] = {}

    def arrived(self, turn: Turn) -> None:
        """A turn arrives."""
        turn.session_seconds = 0.0
        session = turn.session_id
        if session is not None:
            turn.session_seconds = self._service.get(session, 0.0)
            self._turns.setdefault(session, {})[turn.request_id] = turn

    def finished(self, turn: Turn) -> Iterable[str]:
        """A turn is done; returns the ids of the session's others, whose number is another one now."""
        session = turn.session_id
        if session is None:
            return ()
        others = self._turns[session]
        del others[turn.request_id]
        self._service[session] = service = self._service.get(session, 0.0) + turn.attained_service
        for other in others.values():
            other.session_seconds = service
        return others
