"""Writes GGUF files, and the shipped checkpoint as one: what llama.cpp's converter would make of it.

    keys, tensors = of_checkpoint(MODEL)
    write("tiny.gguf", keys, tensors)
    write_split(directory, "tiny", keys, tensors, count=3)    # tiny-00001-of-00003.gguf ...

A key's value is a str, bool, int (u32), float (f32) or a list of one of them (ints as i32); U16 marks a u16. A tensor is
(shape, type number, bytes), its shape with the fastest dimension last.
"""
import json
import os
import struct

F32, BF16 = 0, 30
ALIGNMENT = 32


class U16(int):
    pass


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(v):
    """(type, bytes)"""
    if isinstance(v, bool):
        return 7, struct.pack("<?", v)
    if isinstance(v, U16):
        return 2, struct.pack("<H", v)
    if isinstance(v, int):
        return 4, struct.pack("<I", v)
    if isinstance(v, float):
        return 6, struct.pack("<f", v)
    if isinstance(v, str):
        return 8, string(v)
    if isinstance(v[0], str):
        return 9, struct.pack("<IQ", 8, len(v)) + b"".join(map(string, v))
    kind, code = (6, "f") if isinstance(v[0], float) else (5, "i")
    return 9, struct.pack(f"<IQ{len(v)}{code}", kind, len(v), *v)


def padded(data):
    return data + b"\0" * (-len(data) % ALIGNMENT)


def head(keys, tensors):
    """What a file begins with. tensors: {name: (shape, type, bytes that it takes)}, in the order of their contents."""
    data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys))
    for key, v in keys.items():
        kind, of = value(v)
        data += string(key) + struct.pack("<I", kind) + of
    offset = 0
    for name, (shape, kind, size) in tensors.items():
        data += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
        offset += size + -size % ALIGNMENT
    return padded(data)


def write(path, keys, tensors):
    with open(path, "wb") as f:
        f.write(head(keys, {name: (shape, kind, len(data)) for name, (shape, kind, data) in tensors.items()}))
        f.writelines(padded(data) for _, _, data in tensors.values())


def write_split(directory, name, keys, tensors, count):
    """The paths. The metadata is in the first file; the others say only which they are."""
    names, paths = list(tensors), []
    for i in range(count):
        mine = {n: tensors[n] for n in names[i * len(names) // count:(i + 1) * len(names) // count]}
        split = {"split.no": U16(i), "split.count": U16(count), "split.tensors.count": len(names)}
        paths.append(os.path.join(directory, f"{name}-{i + 1:05}-of-{count:05}.gguf"))
        write(paths[-1], {**(keys if i == 0 else {}), **split}, mine)
    return paths


def published(directory):
    """name -> (shape, dtype, bytes) of a model.safetensors"""
    with open(os.path.join(directory, "model.safetensors"), "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    return {name: (entry["shape"], entry["dtype"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight",
    "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight",
    "self_attn.kv_b_proj.weight": "attn_kv_b.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}
MODEL_NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}


def of_checkpoint(directory):
    """(keys, tensors) of a DeepSeek-V3 checkpoint with a byte-level tokenizer.json: the same weights, bit by bit."""
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    tensors, stacks = {}, {}
    for name, (shape, dtype, data) in published(directory).items():
        if len(shape) == 1 and dtype == "BF16":  # vectors are f32: the same number with 16 bits more
            data, dtype = b"".join(b"\0\0" + data[i:i + 2] for i in range(0, len(data), 2)), "F32"
        kind = BF16 if dtype == "BF16" else F32
        if name in MODEL_NAMES:
            tensors[MODEL_NAMES[name]] = (shape, kind, data)
            continue
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        if int(layer) >= config["num_hidden_layers"]:
            continue  # prediction of further tokens
        if rest.startswith("mlp.experts."):
            expert, projection = rest.split(".")[2:4]
            stacks.setdefault((f"blk.{layer}.{EXPERTS[projection]}.weight", *shape), {})[int(expert)] = data
        else:
            tensors[f"blk.{layer}.{NAMES[rest]}"] = (shape, kind, data)
    for (name, *shape), experts in stacks.items():
        tensors[name] = ([len(experts), *shape], BF16, b"".join(experts[i] for i in range(len(experts))))
    return {**hyperparameters(config), **tokenizer(directory, config)}, tensors


def hyperparameters(config):
    rope = config["rope_scaling"]
    keys = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "attention.q_lora_rank": config["q_lora_rank"],
        "attention.kv_lora_rank": config["kv_lora_rank"],
        "attention.key_length": config["qk_nope_head_dim"] + config["qk_rope_head_dim"],
        "attention.value_length": config["v_head_dim"],
        "rope.dimension_count": config["qk_rope_head_dim"],
        "rope.freq_base": float(config["rope_theta"]),
        "rope.scaling.type": rope["type"],
        "rope.scaling.factor": float(rope["factor"]),
        "rope.scaling.original_context_length": rope["original_max_position_embeddings"],
        "rope.scaling.yarn_log_multiplier": 0.1 * rope["mscale_all_dim"],
        "leading_dense_block_count": config["first_k_dense_replace"],
        "vocab_size": config["vocab_size"],
        "expert_count": config["n_routed_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_shared_count": config["n_shared_experts"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_weights_scale": float(config["routed_scaling_factor"]),
        "expert_weights_norm": config["norm_topk_prob"],
        "expert_gating_func": 2,
        "expert_group_count": config["n_group"],
        "expert_group_used_count": config["topk_group"],
    }
    return {"general.architecture": "deepseek2", **{f"deepseek2.{key}": v for key, v in keys.items()}}


def tokenizer(directory, config):
    """The tokenizer cuts every digit apart, as Qwen's does; they differ in texts with an apostrophe only."""
    with open(os.path.join(directory, "tokenizer.json")) as f:
        t = json.load(f)
    with open(os.path.join(directory, "tokenizer_config.json")) as f:
        beside = json.load(f)
    tokens, types = [f"[PAD{i}]" for i in range(config["vocab_size"])], [5] * config["vocab_size"]
    for token, i in t["model"]["vocab"].items():
        tokens[i], types[i] = token, 1
    for added in t["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], 3
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(pair) for pair in t["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.padding_token_id": config["pad_token_id"],
        "tokenizer.ggml.add_bos_token": beside["add_bos_token"],
        "tokenizer.chat_template": beside["chat_template"],
    }
