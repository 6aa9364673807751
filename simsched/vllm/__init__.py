"""Our policies inside real vLLM: `scheduler_cls="simsched.vllm.PolicyScheduler"`.

This package is the only place in the library that imports vLLM, and only when a class is asked for. Use
`AsyncPolicyScheduler` where vLLM schedules asynchronously (its default on a GPU), else `PolicyScheduler`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["AsyncPolicyScheduler", "PolicyScheduler", "TimedExecutor"]


def __getattr__(name: str) -> Any:
    if name == "TimedExecutor":
        from simsched.vllm.executor import TimedExecutor

        return TimedExecutor
    if name in __all__:
        from simsched.vllm import scheduler

        return getattr(scheduler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
