"""What each session has had of an engine so far: service and waiting of its turns that are done there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from simsched.engine.facts import Attained, Facts

NOTHING: Final = (0.0, 0.0)

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


class SessionService:
    """Keeps what sessions have attained (`Attained`) of all unfinished requests. What a step that is over
    adds to it shows as the next one begins, to all that is asked about it alike."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # session -> service and wait of turns that are done
        self._turns: dict[str, dict[str, Turn]] = {}  # session -> those that are not
        self.grown: dict[str, None] = {}
        """Sessions whose sums have grown since the last step began."""
        self._latest: dict[str, str] = {}  # session -> the turn that has arrived last
        self._paths: dict[str, float] = {}  # request that is done -> its critical path, itself included

    def arrived(self, turn: Turn) -> None:
        """A turn arrives."""
        facts, name = turn.facts, turn.request_id
        session, parents = facts.session_id, facts.parents
        service = wait = critical_path = 0.0
        if session is not None:
            if not parents:
                critical_path = self._paths.get(self._latest.get(session, ""), 0.0)
            self._latest[session] = name
            service, wait = self._sums.get(session, NOTHING)
            turns = self._turns.get(session)
            if turns is None:
                self._turns[session] = {name: turn}
            else:
                turns[name] = turn
        for each in parents:
            critical_path = max(critical_path, self._paths.get(each, 0.0))
        turn.attained = _make(Attained, (service, wait, critical_path))

    def finished(self, turn: Turn, now: float) -> Iterable[str]:
        """A turn is done; returns the ids of the session's others, whose numbers are other ones now."""
        before = turn.attained
        assert before is not None
        own = turn.attained_service
        self._paths[turn.request_id] = before.critical_path + own
        session = turn.facts.session_id
        if session is None:
            return ()
        others = self._turns[session]
        del others[turn.request_id]
        service, wait = self._sums.get(session, NOTHING)
        service += own
        wait += now - turn.arrival_time - own
        self._sums[session] = service, wait
        self.grown[session] = None
        return others

    def begin_step(self) -> None:
        """A step begins: the others of those sessions see what has been added."""
        for session in self.grown:
            service, wait = self._sums[session]
            for turn in self._turns[session].values():
                assert turn.attained is not None
                turn.attained = _make(Attained, (service, wait, turn.attained.critical_path))
        self.grown.clear()
