"""`convert.py WEIGHTS.gguf SMOL TINY`: makes model folders that vLLM can serve.

SMOL gets the weights of a Llama model in a GGUF file, in Hugging Face's form. TINY gets
its tokenizer and the configuration of a model with two layers, for random weights
(`--load-format dummy`); unused special tokens become the marks of several model families.

Runs in the engine's environment, which has gguf, torch, safetensors and transformers.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import save_file
from transformers import AutoTokenizer

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
MARKS = [
    *("<think>", "</think>", "<tool_call>", "</tool_call>", "<|python_tag|>"),
    *(
        f"<|tool_call{end}|>"
        for end in ("s_section_begin", "s_section_end", "_begin", "_end")
    ),
    *(
        f"<｜tool▁{end}｜>"
        for end in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")
    ),
]
FIRST_UNUSED = 3  # the first special token that has no meaning of its own


def field(reader: GGUFReader, name: str, default: Any = None) -> Any:
    """Return a value of the file's metadata."""
    found = reader.get_field(name)
    return default if found is None else found.contents()


def unpermuted(weights: Any, heads: int) -> Any:
    """Undo the order in which GGUF keeps the rotary halves of each head."""
    half = weights.shape[0] // heads // 2
    split = weights.reshape(heads, half, 2, *weights.shape[1:])
    return split.swapaxes(2, 1).reshape(weights.shape)


def tensors(reader: GGUFReader, heads: int, kv_heads: int) -> dict[str, torch.Tensor]:
    """Return the weights under Hugging Face's names."""
    result = {}
    for tensor in reader.tensors:
        parts = tensor.name.removesuffix(".weight").split(".")
        if parts[-1] not in NAMES:
            continue
        weights = dequantize(tensor.data, tensor.tensor_type)
        if parts[-1] in ("attn_q", "attn_k"):
            weights = unpermuted(weights, heads if parts[-1] == "attn_q" else kv_heads)
        prefix = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
        name = f"{prefix}{NAMES[parts[-1]]}.weight"
        result[name] = torch.from_numpy(np.ascontiguousarray(weights)).to(torch.bfloat16)
    return result


def make_smol(source: Path, folder: Path) -> None:
    """Convert a GGUF file to a model folder."""
    folder.mkdir(parents=True)
    reader = GGUFReader(str(source))
    heads = field(reader, "llama.attention.head_count")
    kv_heads = field(reader, "llama.attention.head_count_kv", heads)
    weights = tensors(reader, heads, kv_heads)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ends = {
        f"{kind}_token_id": field(reader, f"tokenizer.ggml.{kind}_token_id")
        for kind in ("bos", "eos")
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": field(reader, "llama.embedding_length"),
        "intermediate_size": field(reader, "llama.feed_forward_length"),
        "num_hidden_layers": field(reader, "llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": field(reader, "llama.context_length"),
        "rms_norm_eps": field(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field(reader, "llama.rope.freq_base", 10000.0),
        "vocab_size": weights["model.embed_tokens.weight"].shape[0],
        "tie_word_embeddings": "lm_head.weight" not in weights,
        "torch_dtype": "bfloat16",
        **ends,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=float))
    (folder / "generation_config.json").write_text(json.dumps(ends))
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    tokenizer.save_pretrained(folder)


def make_tiny(smol: Path, folder: Path) -> None:
    """Make the folder of a model with random weights and SmolLM2's tokenizer."""
    folder.mkdir(parents=True)
    config = json.loads((smol / "config.json").read_text())
    config.update(hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    config.update(num_attention_heads=2, num_key_value_heads=2)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tokenizer = json.loads((smol / "tokenizer.json").read_text())
    names = dict(enumerate(MARKS, FIRST_UNUSED))
    vocabulary = tokenizer["model"]["vocab"]
    for token in tokenizer["added_tokens"]:
        if token["id"] in names:
            vocabulary[names[token["id"]]] = vocabulary.pop(token["content"])
            token.update(content=names[token["id"]], special=False)
    text = json.dumps(tokenizer, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text)
    settings = json.loads((smol / "tokenizer_config.json").read_text())
    for key in (
        "additional_special_tokens",
        "extra_special_tokens",
        "added_tokens_decoder",
    ):
        settings.pop(key, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    for name in ("generation_config.json", *(p.name for p in smol.glob("*.jinja"))):
        shutil.copy(smol / name, folder)


if __name__ == "__main__":
    source, smol, tiny = map(Path, sys.argv[1:])
    make_smol(source.resolve(), smol)
    make_tiny(smol, tiny)
