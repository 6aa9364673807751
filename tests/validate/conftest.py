"""The vLLM tests here follow the rules of tests/vllm."""

from tests.vllm.conftest import vllm_version

__all__ = ["vllm_version"]
