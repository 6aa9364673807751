"""How long requests arrive where nobody says: long enough for a steady state, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

TRANSIENT = 60.0
"""Seconds of arrivals in overload, where every length gives other numbers; as in the paper's runs."""
LEAST, MOST = 600.0, 7200.0
"""Seconds of arrivals below the capacity: several times what the longest answer takes; two hours."""
LONGEST = 14400.0
"""Four hours: where all arms keep up, so that nobody's backlog is simulated for so long."""
ENOUGH = 8000
"""Requests below the capacity: eighty beyond a P99, and throughputs within about 1 % by chance."""
QUEUE_MEMORIES = 45.0
"""A queue forgets in about 1 / (rate * (1 - load)^2) seconds; a run lasts so many times that."""
BATCH_MEMORIES = 250.0
"""A batch forgets how full it was in about `Server.memory` seconds; all runs together last so many times
that. A share of requests that keep a limit is then known within 2 or 3 points, where it is worst."""
OVER = 6.0
"""A backlog that grows by 1 % of the arrivals shows after so many hundreds of seconds."""


class Server(NamedTuple):
    """What serves, as far as it says how long a run must last."""

    capacity: float
    """Requests/s."""
    alone: float
    """Mean seconds of a request that is alone."""
    places: float
    """Requests that run together at most."""

    def memory(self, rate: float) -> float:
        """Seconds in which it forgets how many requests it had, below the capacity.

        With n requests in the batch a step takes a + b * n seconds, and one of L steps is in for L * (a + b *
        n). So n settles where rate * L * (a + b * n) = n, at a speed of d(n / (L * (a + b * n))) / dn, which
        is (1 - rate * L * b)^2 / (L * a). L * a is `alone`, and L * b what the capacity has beside it.
        """
        each = max(0.0, 1 / self.capacity - self.alone / self.places)
        return self.alone / (1 - rate * each) ** 2


def seconds_of_arrivals(rate: float, servers: Sequence[Server], num_runs: int = 1) -> float:
    """How long requests arrive at this rate (requests/s) in each of so many runs.

    All arms of a load meet the same requests, so the one that takes longest to settle decides; where none
    can keep up, there is nothing to wait for.
    """
    below = [server for server in servers if rate < server.capacity]
    if below:
        forgets = 1 / (rate * (1 - max(rate / server.capacity for server in below)) ** 2)
        queue = min(MOST, max(LEAST, ENOUGH / rate, QUEUE_MEMORIES * forgets))
        most = LONGEST if len(below) == len(servers) else MOST
        batch = min(most, BATCH_MEMORIES * max(server.memory(rate) for server in below) / num_runs)
        seconds = max(queue, batch)
    else:
        over = min(rate / server.capacity for server in servers) - 1
        seconds = min(MOST, max(TRANSIENT, OVER / over) if over > 0 else MOST)
    return float(f"{seconds:.3g}")


def behind_run_in(seconds: float, run_in: float) -> float:
    """So many seconds of arrivals after `run_in`, in which a load becomes what it is to be; and so many that
    this is over well before half of the run is."""
    return float(f"{max(seconds + run_in, 2.5 * run_in):.2g}") if run_in else seconds
