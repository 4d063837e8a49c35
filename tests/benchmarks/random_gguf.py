#!/usr/bin/env python3
"""A GGUF file of random Q4_0 weights in a DeepSeek-V3 shape, so that other engines can be measured beside `atoll bench`.

    python3 tests/benchmarks/random_gguf.py ../shared/configs/bench/v3mini.json v3mini.gguf
    llama-bench -m v3mini.gguf -t 2 -p 128,512,2048 -n 32 -fa 1 -mla 3 -fmoe 1 -rtr 1        # ik_llama.cpp

All matrices are Q4_0 (4.5 bits, as INT4), embedding and head too; norms and the router are f32. Weights have a mean of
zero: with the -0.5 of all sixteen values every token would end up in one direction, and so at the same experts. The
tokenizer is a list of names, enough for a benchmark.
"""
import array
import json
import math
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from gguf_file import F32, head, hyperparameters, padded  # noqa: E402

Q4_0, BLOCK, BLOCK_BYTES = 2, 32, 18
# Both nibbles in 1..15, whose weights are -7..7.
NIBBLES = bytes((b & 15 or 8) | ((b >> 4) or 8) << 4 for b in range(256))


def tokenizer(vocab):
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "deepseek-v3",
        "tokenizer.ggml.tokens": [f"t{i}" for i in range(vocab)], "tokenizer.ggml.token_type": [1] * vocab,
        "tokenizer.ggml.merges": ["t 1"], "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1,
    }


def tensors(c):
    """(name, shape with the inputs last, type) in a file's order."""
    hidden, heads, latent = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, wide = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    experts, inner, query = c["n_routed_experts"], c["moe_intermediate_size"], c["q_lora_rank"]
    yield "token_embd.weight", (c["vocab_size"], hidden), Q4_0
    yield "output_norm.weight", (hidden,), F32
    yield "output.weight", (c["vocab_size"], hidden), Q4_0
    for layer in range(c["num_hidden_layers"]):
        def of(name, *shape, kind=Q4_0):
            return f"blk.{layer}.{name}", shape, kind
        yield of("attn_norm.weight", hidden, kind=F32)
        yield of("attn_q_a.weight", query, hidden)
        yield of("attn_q_a_norm.weight", query, kind=F32)
        yield of("attn_q_b.weight", heads * (nope + rope), query)
        yield of("attn_kv_a_mqa.weight", latent + rope, hidden)
        yield of("attn_kv_a_norm.weight", latent, kind=F32)
        yield of("attn_kv_b.weight", heads * (nope + wide), latent)
        yield of("attn_output.weight", hidden, heads * wide)
        yield of("ffn_norm.weight", hidden, kind=F32)
        if layer < c["first_k_dense_replace"]:
            suffix, width = "", c["intermediate_size"]
        else:
            yield of("ffn_gate_inp.weight", experts, hidden, kind=F32)
            yield of("exp_probs_b.bias", experts, kind=F32)
            for name, shape in (("gate", (inner, hidden)), ("up", (inner, hidden)), ("down", (hidden, inner))):
                yield of(f"ffn_{name}_exps.weight", experts, *shape)
            suffix, width = "_shexp", c["n_shared_experts"] * inner
        yield of(f"ffn_gate{suffix}.weight", width, hidden)
        yield of(f"ffn_up{suffix}.weight", width, hidden)
        yield of(f"ffn_down{suffix}.weight", hidden, width)


def size(shape, kind):
    elements = math.prod(shape)
    return elements * 4 if kind == F32 else elements // BLOCK * BLOCK_BYTES


def contents(name, shape, kind, dice):
    """The tensor's bytes, some megabytes at a time."""
    if kind == F32:
        elements = math.prod(shape)
        if len(shape) == 1:
            yield array.array("f", [1.0 if "norm" in name else 0.0] * elements).tobytes()
        else:
            yield array.array("f", (dice.gauss(0, shape[-1] ** -0.5) for _ in range(elements))).tobytes()
        return
    scale = struct.pack("<e", 1 / (4.3 * math.sqrt(shape[-1])))
    left = math.prod(shape) // BLOCK
    while left > 0:
        blocks = min(left, 1 << 18)
        data = bytearray(blocks * BLOCK_BYTES)
        for i in range(2):
            data[i::BLOCK_BYTES] = scale[i:i + 1] * blocks
        for i in range(2, BLOCK_BYTES):
            data[i::BLOCK_BYTES] = dice.randbytes(blocks).translate(NIBBLES)
        yield bytes(data)
        left -= blocks


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: random_gguf.py CONFIG.json OUT.gguf")
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    if config.get("model_type") not in ("deepseek_v3", "kimi_k2"):
        sys.exit(f"{sys.argv[1]}: model_type {config.get('model_type')}, only the DeepSeek-V3 shape is written")
    keys = {**hyperparameters(config), "general.file_type": Q4_0, **tokenizer(config["vocab_size"])}
    listed = {name: (shape, kind, size(shape, kind)) for name, shape, kind in tensors(config)}
    dice = random.Random(1)
    with open(sys.argv[2], "wb") as out:
        out.write(head(keys, listed))
        for i, (name, (shape, kind, _)) in enumerate(listed.items()):
            print(f"\r{i + 1} of {len(listed)} tensors", end="", file=sys.stderr)
            last = b""
            for data in contents(name, shape, kind, dice):
                out.write(last)
                last = data
            out.write(padded(last))
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
