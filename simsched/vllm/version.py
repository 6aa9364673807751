"""Which vLLM versions the adapter is tested on; any other is an error at start, never a wrong schedule."""

from __future__ import annotations

from importlib.util import find_spec

from simsched.errors import InputError
from simsched.vllm_versions import parse_version

_HINT = "install the CPU engine with `bash validate/install-cpu.sh VENV`, or `pip install vllm`"


def check_version(version: str) -> None:
    """Accept a version of the tested range.

    Raises:
        InputError: the version is older, newer or not a number.
    """
    parse_version(version)


def check_installed() -> None:
    """Without importing it, which takes seconds.

    Raises:
        InputError: vLLM is missing.
    """
    if find_spec("vllm") is None:
        raise InputError(f"vLLM is not installed; {_HINT}")


def installed_version() -> str:
    """The version of the installed vLLM, without what its build adds (`+cpu`).

    Raises:
        InputError: vLLM is missing.
    """
    try:
        from vllm import __version__
    except ImportError as error:
        raise InputError(f"vLLM cannot be imported ({error}); {_HINT}") from None
    return str(__version__).partition("+")[0]
