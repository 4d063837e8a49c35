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
import random
import struct
import sys

F32, Q4_0 = 0, 2
ALIGNMENT, BLOCK, BLOCK_BYTES = 32, 32, 18
STRING, ARRAY = 8, 9
# Both nibbles in 1..15, whose weights are -7..7.
NIBBLES = bytes((b & 15 or 8) | ((b >> 4) or 8) << 4 for b in range(256))


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(v):
    """The type and the bytes of a metadata value."""
    if isinstance(v, bool):
        return 7, struct.pack("<?", v)
    if isinstance(v, int):
        return 4, struct.pack("<I", v)
    if isinstance(v, float):
        return 6, struct.pack("<f", v)
    if isinstance(v, str):
        return STRING, string(v)
    if isinstance(v[0], int):  # of signed ones, as token types are
        return ARRAY, struct.pack(f"<IQ{len(v)}i", 5, len(v), *v)
    return ARRAY, struct.pack("<IQ", STRING, len(v)) + b"".join(string(item) for item in v)


def metadata(c):
    rope = c["rope_scaling"]
    own = {
        "block_count": c["num_hidden_layers"], "context_length": 65536, "embedding_length": c["hidden_size"],
        "feed_forward_length": c["intermediate_size"], "vocab_size": c["vocab_size"],
        "attention.head_count": c["num_attention_heads"], "attention.head_count_kv": c["num_attention_heads"],
        "attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]), "attention.q_lora_rank": c["q_lora_rank"],
        "attention.kv_lora_rank": c["kv_lora_rank"],
        "attention.key_length": c["qk_nope_head_dim"] + c["qk_rope_head_dim"],
        "attention.value_length": c["v_head_dim"], "rope.dimension_count": c["qk_rope_head_dim"],
        "rope.freq_base": float(c["rope_theta"]), "rope.scaling.type": rope["type"],
        "rope.scaling.factor": float(rope["factor"]),
        "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        "rope.scaling.yarn_log_multiplier": 0.1 * rope["mscale_all_dim"],
        "leading_dense_block_count": c["first_k_dense_replace"], "expert_count": c["n_routed_experts"],
        "expert_used_count": c["num_experts_per_tok"], "expert_shared_count": c["n_shared_experts"],
        "expert_feed_forward_length": c["moe_intermediate_size"],
        "expert_weights_scale": float(c["routed_scaling_factor"]), "expert_weights_norm": c["norm_topk_prob"],
        "expert_gating_func": 2,  # sigmoid
        "expert_group_count": c["n_group"], "expert_group_used_count": c["topk_group"],
    }
    vocab = c["vocab_size"]
    return {
        "general.architecture": "deepseek2", "general.file_type": Q4_0,
        **{"deepseek2." + key: v for key, v in own.items()},
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
    known, listed = metadata(config), list(tensors(config))
    dice = random.Random(1)
    with open(sys.argv[2], "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(known)))
        for key, v in known.items():
            kind, data = value(v)
            out.write(string(key) + struct.pack("<I", kind) + data)
        offset = 0
        for name, shape, kind in listed:
            out.write(string(name) + struct.pack("<I", len(shape)))
            out.write(struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, offset))
            offset += (size(shape, kind) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        out.write(b"\0" * (-out.tell() % ALIGNMENT))
        for i, (name, shape, kind) in enumerate(listed):
            print(f"\r{i + 1} of {len(listed)} tensors", end="", file=sys.stderr)
            for data in contents(name, shape, kind, dice):
                out.write(data)
            out.write(b"\0" * (-out.tell() % ALIGNMENT))
    print(file=sys.stderr)


if __name__ == "__main__":
    main()
