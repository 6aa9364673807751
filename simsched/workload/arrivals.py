"""When requests arrive: unit-rate arrival times, stretched to the rate asked for.

The same seed gives the same pattern at every rate, so runs at two rates differ in the rate alone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from simsched.errors import InputError
from simsched.streams import stream
from simsched.text.specs import check_parameters, number, parse_spec
from simsched.workload.trace import FloatArray

PROCESSES: dict[str, tuple[str, ...]] = {
    "poisson": ("exact", "burst"),
    "gamma": ("cv", "exact", "burst"),
    "uniform": ("burst",),
    "burst": (),
    "closed": ("users", "think_time"),
    "sessions": ("rate",),
    "users": ("n",),
}

UNRATED = ("burst", "closed", "users")
"""Those to which a request rate means nothing."""

_ALONE = re.compile(r"(sessions|users)\(([^=()]+)\)")


def _named(spec: re.Match[str]) -> str:
    """`users(8)` is `users(n=8)`: their one parameter needs no name."""
    return f"{spec[1]}({PROCESSES[spec[1]][0]}={spec[2]})"


@dataclass(frozen=True)
class Arrivals:
    """An arrival process, from a spec such as `poisson`, `gamma(cv=2)` or `closed(users=32,think_time=1)`."""

    process: str = "poisson"
    cv: float = 1.0
    """Coefficient of variation of the gaps (gamma)."""
    exact: bool = False
    """Drawn gaps are scaled so that the last of n requests comes at n / rate, as vLLM bench does it;
    otherwise the rate that a run gets differs from the one asked for, by chance."""
    burst: int = 0
    """So many of the requests are all there at 0, before the others arrive at their rate."""
    users: int | None = None
    """Closed loop: this many users, each waiting for its answer (of a session its last one) before it asks
    again."""
    think_time: float = 0.0
    """Closed loop: seconds between an answer and the same user's next request."""
    rate: float | None = None
    """Sessions that start in a second (sessions); None: as the request rate says, which counts turns."""

    @staticmethod
    def parse(spec: str) -> Arrivals:
        """Raises InputError for an unknown process, parameter or value."""
        name, given = parse_spec(_ALONE.sub(_named, spec.strip()), "--arrivals")
        if name not in PROCESSES:
            raise InputError(f"--arrivals {name}: unknown; expected one of {', '.join(PROCESSES)}")
        check_parameters("--arrivals", name, given, PROCESSES[name])
        exact = given.get("exact", False)
        if type(exact) is not bool:
            raise InputError(f"--arrivals {name}: exact={exact}: expected true or false")
        burst = number("--arrivals", name, "burst", given.get("burst", 0), 0, 1e9)
        if burst != int(burst):
            raise InputError(f"--arrivals {name}: burst={burst}: expected a whole number")
        if name == "gamma":
            cv = number("--arrivals", name, "cv", given.get("cv", 1.0), 0.01, 100.0)
            return Arrivals(name, cv=cv, exact=exact, burst=int(burst))
        if name in ("poisson", "uniform"):
            return Arrivals(name, exact=exact, burst=int(burst))
        if name == "closed":
            users = number("--arrivals", name, "users", given.get("users"), 1, 1e9)
            if users != int(users):
                raise InputError(f"--arrivals closed: users={users}: expected a whole number")
            think = number("--arrivals", name, "think_time", given.get("think_time", 0.0), 0.0, 1e9)
            return Arrivals(name, users=int(users), think_time=think)
        if name == "sessions":
            rate = given.get("rate")
            return Arrivals(
                name, rate=None if rate is None else number("--arrivals", name, "rate", rate, 1e-9, 1e9)
            )
        if name == "users":
            n = number("--arrivals", name, "n", given.get("n"), 1, 1e9)
            if n != int(n):
                raise InputError(f"--arrivals users: n={n}: expected a whole number")
            return Arrivals(name, users=int(n))
        return Arrivals(name)

    @property
    def by_session(self) -> bool:
        """Does it start sessions, whose later turns come by themselves?"""
        return self.process in ("sessions", "users")

    @property
    def rated(self) -> bool:
        """Does a request rate mean anything to it?"""
        return self.process not in UNRATED and self.rate is None

    @property
    def why_unrated(self) -> str:
        """What is in the way of a request rate, where it means nothing: the end of a message."""
        if self.rate is None:
            return "have no rate"
        return f"have a rate of their own, {self.rate:g}; expected sessions, or no --request-rate"

    def times(self, num_requests: int, request_rate: float | None, seed: int) -> FloatArray:
        """Arrival times in seconds, never decreasing, shape (num_requests,).

        `request_rate` is in requests/s; infinite means all at once. A burst and a closed loop take none: all
        requests are there at t = 0 (in the loop, the engine holds each back until its user is free).
        Of `sessions` these are the starts: at their own rate, or at `request_rate`, which is then in
        sessions/s.
        """
        if not self.rated:
            if request_rate is not None:
                raise InputError(
                    f"--request-rate {request_rate:g}: {self.process} arrivals {self.why_unrated}"
                )
            if self.rate is None:
                return np.zeros(num_requests)
            request_rate = self.rate
        if request_rate is None or math.isnan(request_rate) or request_rate <= 0:
            given = "" if request_rate is None else f" {request_rate:g}"
            raise InputError(f"--request-rate{given}: expected requests/s, above 0 (inf = all at once)")
        burst = min(self.burst, num_requests)
        if burst == num_requests:
            return np.zeros(num_requests)
        return np.concatenate([np.zeros(burst), self._unit(num_requests - burst, seed) / request_rate])

    def _unit(self, n: int, seed: int) -> FloatArray:
        if self.process == "uniform":
            return np.arange(n, dtype=np.float64)
        generator = stream(seed, "arrivals")
        if self.process == "gamma" and self.cv != 1.0:
            shape = self.cv**-2
            times = np.cumsum(generator.gamma(shape, 1 / shape, n))
        else:
            times = np.cumsum(generator.standard_exponential(n))
        return times * (n / times[-1]) if self.exact and times[-1] > 0 else times

    @property
    def drawn(self) -> bool:
        """Does the rate of a run differ from the one asked for, by chance?"""
        return self.process in ("poisson", "gamma") and not (self.exact or self.burst)
