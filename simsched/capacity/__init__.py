"""The largest request rate of each arm: that is stable, that heals from a burst, that meets an objective; and
how many replicas behind a router serve a load."""

from simsched.capacity.arms import ArmRates, arm_rates
from simsched.capacity.probe import Probe, Prober
from simsched.capacity.search import Found, Rate, find_rates
from simsched.capacity.sizing import ArmSize, arm_sizes
from simsched.capacity.tasks import GROUPS, Question

__all__ = [
    "GROUPS",
    "ArmRates",
    "ArmSize",
    "Found",
    "Probe",
    "Prober",
    "Question",
    "Rate",
    "arm_rates",
    "arm_sizes",
    "find_rates",
]
