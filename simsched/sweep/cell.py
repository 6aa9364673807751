"""One cell of a study's grid: everything that determines one run, as plain data for any process."""

from __future__ import annotations

from dataclasses import dataclass

from simsched.engine.admissible import Limit
from simsched.engine.config import EngineConfig
from simsched.sweep.fleet import fleet_of


@dataclass(frozen=True)
class Load:
    """What is offered: the requests and when they arrive, whatever serves them."""

    workload: str | None = None
    """A named workload, or"""
    trace: str | None = None
    """a trace file,"""
    format: str | None = None
    """of this format; None: recognised by its content,"""
    time_unit: str | None = None
    """with times in this unit; None: as the format says,"""
    hash_block_size: int | None = None
    """and hash ids of so many tokens; None: as the file says."""
    trace_window: str | None = None
    """The part of the file's requests, `FROM..TO` in seconds of its own time; None: all."""
    resample: str | None = None
    """`block(SECONDS)`: every run is drawn from blocks of the trace; None: replayed as it is."""
    copies: int = 1
    """How many times the trace comes, one after the other (`simsched.capacity`)."""
    request_rate: float | None = None
    """Requests/s; None: as in the trace, or arrivals that have no rate."""
    arrivals: str | None = None
    """None: as in the trace."""
    num_requests: int | None = None
    duration: float | None = None
    """Seconds of arrivals."""
    seed: int = 0
    skip_invalid: bool = False
    """Drop requests that can't be used."""
    truncate: bool = False
    """Cut those that are too long."""
    limit: Limit | None = None
    """What may be dropped or cut: with one of the two, the most tokens that the engine can serve."""


@dataclass(frozen=True)
class Arm:
    """What serves the load: all that the user chooses between."""

    policy: str
    config: EngineConfig
    cost_profile: str
    """A profile's name, or a file."""
    host_speed: float | None = None
    """Factor on the host's times; None: as the profile has them."""
    host_jitter: float | None = None
    """Spread of launches around their usual time; None: as the profile has it."""
    num_replicas: int | None = None
    """Engines behind a router; None: one, without a router."""
    replicas: str | None = None
    """Engines that differ, in place of `num_replicas` (`sweep.fleet`); `cost_profile` is the first one's."""
    router: str | None = None
    """Which of them serves a request; None: `DEFAULT_ROUTER`."""
    predictor: str | None = None
    """None: what the policy asks for."""
    tau: float | None = None
    """For an emulated predictor whose spec gives none."""
    predictor_time: float | None = None
    """Seconds of predictor for each request; None: from the profile."""

    def fleet(self) -> list[tuple[str, EngineConfig]]:
        """The cost profile and engine of each replica; of a lone engine, one."""
        if self.replicas is not None:
            return fleet_of(self.replicas, self.config)
        return [(self.cost_profile, self.config)] * (self.num_replicas or 1)

    @property
    def is_routed(self) -> bool:
        """Is it replicas behind a router?"""
        return self.num_replicas is not None or self.replicas is not None


@dataclass(frozen=True)
class Cell:
    """A load, an arm, and how the run is judged."""

    load: Load
    arm: Arm
    goodput: tuple[tuple[str, float], ...] | None = None
    """Metric and limit (ms), of a good request."""
