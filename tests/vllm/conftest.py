"""Tests marked `vllm` skip where vLLM is missing; with SIMSCHED_REQUIRE_VLLM=1 that is a failure."""

from __future__ import annotations

import importlib.util
import os

import pytest


@pytest.fixture(scope="session")
def vllm_version() -> str:
    """The installed vLLM, prepared for running without a model."""
    if importlib.util.find_spec("vllm") is None:
        if os.environ.get("SIMSCHED_REQUIRE_VLLM") == "1":
            pytest.fail("SIMSCHED_REQUIRE_VLLM=1, but vLLM is not installed")
        pytest.skip("vLLM is not installed (bash validate/install-cpu.sh VENV)")
    from validate.virtual_engine import prepare_vllm

    return prepare_vllm()
