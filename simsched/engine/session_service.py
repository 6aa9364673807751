"""What each session has had of an engine so far: service and waiting of its turns that are done there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from simsched.engine.facts import Attained, Facts

_make = tuple.__new__
"""`Attained` from a tuple, in half the time."""


class Turn(Protocol):
    """What is read and written of a request."""

    attained: Attained | None
    facts: Facts
    arrival_time: float
    request_id: str

    @property
    def attained_service(self) -> float: ...


class Session:
    """What its turns that are done have had, and the others."""

    __slots__ = ("latest", "service", "turns", "wait")

    def __init__(self) -> None:
        self.service = 0.0
        self.wait = 0.0
        self.turns: dict[str, Turn] = {}
        self.latest = ""
        """The turn that has arrived last."""


class SessionService:
    """Keeps what sessions have attained (`Attained`) of all unfinished requests. What a step that is over
    adds to it shows as the next one begins, to all that is asked about it alike."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self.grown: dict[Session, None] = {}
        """Those that have got more since the last step began."""
        self._paths: dict[str, float] = {}  # request that is done -> its critical path, itself included

    def arrived(self, turn: Turn) -> None:
        """A turn arrives."""
        facts, name = turn.facts, turn.request_id
        session_id, parents = facts.session_id, facts.parents
        service = wait = critical_path = 0.0
        if session_id is not None:
            session = self._sessions.get(session_id)
            if session is None:
                session = self._sessions[session_id] = Session()
            elif not parents:
                critical_path = self._paths.get(session.latest, 0.0)
            session.latest = name
            service, wait = session.service, session.wait
            session.turns[name] = turn
        for each in parents:
            critical_path = max(critical_path, self._paths.get(each, 0.0))
        turn.attained = _make(Attained, (service, wait, critical_path))

    def finished(self, turn: Turn, now: float) -> Iterable[str]:
        """A turn is done; returns the ids of the session's others, whose numbers are other ones now."""
        before = turn.attained
        assert before is not None
        own = turn.attained_service
        self._paths[turn.request_id] = before.critical_path + own
        session_id = turn.facts.session_id
        if session_id is None:
            return ()
        session = self._sessions[session_id]
        del session.turns[turn.request_id]
        session.service += own
        session.wait += now - turn.arrival_time - own
        self.grown[session] = None
        return session.turns

    def begin_step(self) -> None:
        """A step begins: the others of those sessions see what has been added."""
        for session in self.grown:
            for turn in session.turns.values():
                assert turn.attained is not None
                turn.attained = _make(Attained, (session.service, session.wait, turn.attained.critical_path))
        self.grown.clear()
