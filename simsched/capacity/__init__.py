"""The largest request rate of each arm: that is stable, that heals from a burst, that meets an objective."""

from simsched.capacity.probe import Probe, Prober
from simsched.capacity.search import Found, find_rates

__all__ = ["Found", "Probe", "Prober", "find_rates"]
