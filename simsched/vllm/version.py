"""Which vLLM versions the adapter is tested on; any other is an error at start, never a wrong schedule."""

from __future__ import annotations

import re
from importlib.util import find_spec

from simsched.errors import InputError

OLDEST = (0, 24)
NEWEST = (0, 33)
_HINT = "install the CPU engine with `bash validate/install-cpu.sh VENV`, or `pip install vllm`"


def check_version(version: str) -> None:
    """Accept a version of the tested range.

    Raises:
        InputError: the version is older, newer or not a number.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not OLDEST <= (int(numbers[1]), int(numbers[2])) <= NEWEST:
        wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
        raise InputError(f"vLLM {version}: not supported; the policy scheduler is tested on {wanted}")


def check_installed() -> None:
    """Without importing it, which takes seconds.

    Raises:
        InputError: vLLM is missing.
    """
    if find_spec("vllm") is None:
        raise InputError(f"vLLM is not installed; {_HINT}")


def installed_version() -> str:
    """The version of the installed vLLM.

    Raises:
        InputError: vLLM is missing.
    """
    try:
        from vllm import __version__
    except ImportError as error:
        raise InputError(f"vLLM cannot be imported ({error}); {_HINT}") from None
    return str(__version__)
