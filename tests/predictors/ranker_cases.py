"""Prompts whose answers' length follows from their words, and tiny backbones with random weights."""

import json

import numpy as np

SHORT = ("Name", "Classify", "Pick", "Is it")
LONG = ("Write a story about", "Explain in detail", "Compose an essay on", "Describe at length")
THINGS = ("cats", "rivers", "history", "a bridge", "the moon", "music", "bread", "taxes", "bees", "paint")


def rows(n=200, seed=0):
    """n distinct prompts with two samples of their lengths: short for SHORT openings, long for LONG ones."""
    rng = np.random.default_rng(seed)
    entries = []
    for i in range(n):
        is_long = rng.random() < 0.5
        opening = rng.choice(LONG if is_long else SHORT)
        first, second = np.exp(rng.normal(5.5 if is_long else 3, 0.4, 2)).astype(int) + 1
        prompt = f"{opening} {rng.choice(THINGS)} and {rng.choice(THINGS)}, number {i}"
        entries.append({"prompt": prompt, "output_length": int(first), "second": int(second), "id": f"r{i}"})
    return entries


def write_jsonl(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def tiny_backbone(folder, kind):
    """An OPT decoder or a BERT encoder of 2 layers and 32 units with random weights, saved as on the hub."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for entry in rows() for word in entry["prompt"].split()})
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    if kind == "opt":
        config = OPTConfig(
            vocab_size=len(vocabulary), hidden_size=32, ffn_dim=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64, word_embed_proj_dim=32,
            pad_token_id=0, bos_token_id=1, eos_token_id=1,
        )  # fmt: skip
        model = OPTForCausalLM(config)
    else:
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=64,
        )  # fmt: skip
        model = BertModel(config)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(
        folder
    )
    return str(folder)
