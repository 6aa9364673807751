"""simsched: find out which request scheduler an LLM server should run.

    import simsched
    simsched.simulate("ranking", workload="sharegpt", request_rate=12).summary

`docs/python.md` is the tour. What is named here is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from simsched._version import __version__ as __version__

if TYPE_CHECKING:
    from simsched.api import run_study as run_study
    from simsched.api import simulate as simulate
    from simsched.compare import compare as compare
    from simsched.engine.config import EngineConfig as EngineConfig
    from simsched.policies.base import NEVER as NEVER
    from simsched.policies.base import Change as Change
    from simsched.policies.base import Policy as Policy
    from simsched.policies.base import register as register
    from simsched.results import Results as Results
    from simsched.workload.trace import Trace as Trace

_HOMES = {
    "simulate": "api",
    "run_study": "api",
    "Results": "results",
    "Trace": "workload.trace",
    "Policy": "policies.base",
    "Change": "policies.base",
    "NEVER": "policies.base",
    "register": "policies.base",
    "EngineConfig": "engine.config",
}
__all__ = [
    "NEVER",
    "Change",
    "EngineConfig",
    "Policy",
    "Results",
    "Trace",
    "compare",
    "register",
    "run_study",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name == "compare":  # a package that can be called
        return import_module("simsched.compare")
    if name not in _HOMES:
        raise AttributeError(f"module 'simsched' has no attribute {name!r}")
    value = getattr(import_module(f"simsched.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
