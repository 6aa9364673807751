"""The largest request rate of each arm: that is stable, that heals from a burst, that meets an objective."""

from simsched.capacity.arms import GROUPS, ArmRates, Question, arm_rates
from simsched.capacity.probe import Probe, Prober
from simsched.capacity.search import Found, Rate, find_rates

__all__ = [
    "GROUPS",
    "ArmRates",
    "Found",
    "Probe",
    "Prober",
    "Question",
    "Rate",
    "arm_rates",
    "find_rates",
]
