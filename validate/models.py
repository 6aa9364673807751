"""Model configurations for dummy weights: what a replay needs of a model is its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "bfloat16",
}

MODELS: dict[str, dict[str, Any]] = {
    # small enough for two CPU cores: a decode step of some milliseconds
    "tiny-llama": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 1000,
        "max_position_embeddings": 131072,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    # the shape of meta-llama/Meta-Llama-3-8B, from its published config.json
    "llama-3-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    },
}


def write_model(name: str, folder: Path) -> Path:
    """Write the configuration `MODELS[name]` (for vLLM's `load_format="dummy"`); returns its folder."""
    path = folder / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(_LLAMA | MODELS[name], indent=1), encoding="utf-8")
    return path


def write_tokenizer(path: Path, vocabulary: int) -> None:
    """A tokenizer for a served model that has none: each token id is a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"t{number}": number for number in range(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "t0",
        "bos_token": "t1",
        "eos_token": "t2",
        "model_max_length": 131072,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
