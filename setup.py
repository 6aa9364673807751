"""Metadata is in setup.cfg. `SIMSCHED_COMPILE=1 pip install .` compiles the hot modules with mypyc: the same
sources, the same results, about twice as fast. It needs a C compiler."""

import os
from pathlib import Path
from typing import Any

from setuptools import setup

# what a simulated step goes through; policies stay interpreted, so that anyone can write one
HOT = {
    "engine": [
        *("agenda", "arrival", "base", "clock", "data_parallel", "host_clock", "pipelined"),
        *("recorder", "repeat", "replica", "request_status", "serial", "session_service", "source"),
        *("step_clock",),
    ],
    "engine/vllm_v1": [
        *("answers", "arriving", "backlog", "changes", "discipline", "free_queue", "handover"),
        *("leaping", "leaping_async", "leaping_request"),
        *("leaping_async_shared", "leaping_decisions", "leaping_shared", "policy_order", "pressure"),
        *("asked_policy", "leaping_blocks", "prefixes", "queues", "shared_blocks", "state"),
        *("uncontended", "uncontended_ahead"),
    ],
    "cost_model": ["base"],
}
# what mypyc needs, and the libraries whose types the hot modules use
REQUIRES = ["mypy>=1.10", "numpy>=1.26", "pydantic>=2.6", "simpy>=4.1"]
# the package's own face names everything, and with it whatever is installed (torch, transformers, ...)
MYPY = """[mypy]
ignore_missing_imports = True
follow_imports = silent
[mypy-simsched]
follow_imports = skip
"""


def extensions() -> list[Any]:
    """The hot modules, in one shared library; nothing while pip only asks what a build requires."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        return []
    config = Path("build/mypyc.ini")
    config.parent.mkdir(exist_ok=True)
    config.write_text(MYPY)
    files = [f"simsched/{folder}/{name}.py" for folder, names in HOT.items() for name in names]
    return mypycify(
        ["--config-file", str(config), *files], opt_level="3", group_name="simsched.engine.compiled"
    )


compiled = os.environ.get("SIMSCHED_COMPILE") == "1"
setup(setup_requires=REQUIRES if compiled else [], ext_modules=extensions() if compiled else [])
