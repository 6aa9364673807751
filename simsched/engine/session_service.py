"""What each session has had of an engine so far: service and waiting of its turns that are done there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from simsched.engine.facts import Attained, Facts


class Turn(Protocol):
    """What is read and written of a request."""

    attained: Attained | None
    facts: Facts
    arrival_time: float
    request_id: str

    @property
    def attained_service(self) -> float: ...


class SessionService:
    """Keeps what sessions have attained (`Attained`) of all unfinished requests. What a step that is over
    adds to it shows as the next one begins, to all that is asked about it alike."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # session -> service and wait of turns that are done
        self._turns: dict[str, dict[str, Turn]] = {}  # session -> those that are not
        self._grown: dict[str, None] = {}  # sessions whose sums have grown since the last step began
        self._latest: dict[str, str] = {}  # session -> the turn that has arrived last
        self._paths: dict[str, float] = {}  # request that is done -> its critical path, itself included

    def arrived(self, turn: Turn) -> None:
        """A turn arrives."""
        session = turn.facts.session_id
        parents = turn.facts.parents
        service = wait = 0.0
        if session is not None:
            if not parents and session in self._latest:
                parents = (self._latest[session],)
            self._latest[session] = turn.request_id
            service, wait = self._sums.get(session, (0.0, 0.0))
            self._turns.setdefault(session, {})[turn.request_id] = turn
        paths = [self._paths.get(each, 0.0) for each in parents]
        turn.attained = Attained(service, wait, max(paths, default=0.0))

    def finished(self, turn: Turn, now: float) -> Iterable[str]:
        """A turn is done; returns the ids of the session's others, whose numbers are other ones now."""
        attained = turn.attained
        assert attained is not None
        own = turn.attained_service
        self._paths[turn.request_id] = attained.critical_path + own
        session = turn.facts.session_id
        if session is None:
            return ()
        others = self._turns[session]
        del others[turn.request_id]
        service, wait = self._sums.get(session, (0.0, 0.0))
        service += own
        wait += now - turn.arrival_time - own
        self._sums[session] = service, wait
        self._grown[session] = None
        return others

    def begin_step(self) -> None:
        """A step begins: the others of those sessions see what has been added."""
        for session in self._grown:
            service, wait = self._sums[session]
            for turn in self._turns[session].values():
                assert turn.attained is not None
                turn.attained = Attained(service, wait, turn.attained.critical_path)
        self._grown.clear()
