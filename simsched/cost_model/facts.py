"""Public facts about models and GPUs that profiles are made from."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A GPU card."""

    name: str
    memory_bytes: int
    """What CUDA reports as total, a little less than the label."""
    bandwidth: float | None = None
    """Of its memory, bytes a second (NVIDIA's data sheet); None: unknown."""
    tables: str = ""
    """Which kernel tables are of it, by a part of their file names; empty: none."""


# Total memory as printed in CUDA's messages on these cards; it varies by about 0.1 GiB with the driver.
GPUS = {
    "a100-80gb": Gpu("NVIDIA A100-SXM4-80GB", int(79.25 * GIB), 2039e9, "a100"),
    "a100-40gb": Gpu("NVIDIA A100-SXM4-40GB", int(39.50 * GIB), 1555e9, "a100"),
    "h100-80gb": Gpu("NVIDIA H100 80GB HBM3", int(79.10 * GIB), 3350e9, "h100"),
    "h200-141gb": Gpu("NVIDIA H200", int(139.81 * GIB), 4800e9, "h200"),
    "b200-180gb": Gpu("NVIDIA B200", int(178.35 * GIB), 7700e9, "b200"),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The shape of a Llama-like decoder in bfloat16, from its public configuration."""

    name: str
    table: str
    """Its name in Vidur's kernel tables."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    parameters: int
    max_model_len: int
    head_dim: int = 128
    vocabulary: int = 128_256

    @property
    def weight_bytes(self) -> int:
        """All parameters."""
        return 2 * self.parameters

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of every layer."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


def _llama_8b(name: str, max_model_len: int) -> Architecture:
    return Architecture(
        name=name,
        table="Meta-Llama-3-8B",
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        intermediate=14_336,
        parameters=8_030_261_248,
        max_model_len=max_model_len,
    )


ARCHITECTURES = {
    "llama-3-8b": _llama_8b("Llama-3-8B", 8192),
    "llama-3.1-8b": _llama_8b("Llama-3.1-8B", 131_072),
    "llama-3-70b": Architecture(
        name="Llama-3-70B",
        table="Meta-Llama-3-70B",
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        intermediate=28_672,
        parameters=70_553_706_496,
        max_model_len=8192,
    ),
}
