"""A sharded DeepSeek-V3 checkpoint of any size, made of noise in bf16, and which of its bytes each rank needs.

    checkpoint = BigCheckpoint(directory, gigabytes=8)      # writes config.json, the index and the shards
    checkpoint.kept(rank, ranks=4, tp=2)                    # {shard: [(begin, end), ...]}: byte ranges in its file

What a rank needs is worked out here from the rules of sharding alone: heads, vocabulary and widths are cut evenly over
the tensor-parallel group, experts lie in equal runs over all ranks, the rest is whole everywhere.
"""
import json
import os
import struct

import numpy as np

PAGE = 4096
SHARD_BYTES = 1 << 30
CONFIG = {
    "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"], "vocab_size": 32768,
    "n_shared_experts": 1, "num_experts_per_tok": 4, "first_k_dense_replace": 1, "num_attention_heads": 16,
    "num_key_value_heads": 16, "n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0, "norm_topk_prob": True,
    "q_lora_rank": None, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64,
    "max_position_embeddings": 4096, "rope_theta": 10000.0, "rope_scaling": None, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False, "attention_bias": False, "hidden_act": "silu", "scoring_func": "sigmoid",
    "topk_method": "noaux_tc", "moe_layer_freq": 1, "num_nextn_predict_layers": 0, "torch_dtype": "bfloat16",
}
WHOLE, ROWS, COLUMNS, EXPERT = "whole", "rows", "columns", "expert"


def evict(paths):
    """Nothing of the files stays in the page cache."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)  # what is not written yet cannot go
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def sized(gigabytes):
    """The config whose checkpoint has about so many bytes."""
    large = gigabytes >= 2
    config = {**CONFIG, "hidden_size": 2048 if large else 512, "intermediate_size": 8192 if large else 2048,
              "moe_intermediate_size": 1024 if large else 256, "n_routed_experts": 64 if large else 16}
    if not large:
        config["vocab_size"] = 8192
    size = lambda layers: sum(2 * np.prod(shape) for _, shape, _ in tensors({**config, "num_hidden_layers": layers}))  # noqa: E731
    one = size(3) - size(2)
    config["num_hidden_layers"] = int(max(2, round((gigabytes * 1e9 - size(2)) / one) + 2))
    return config


def tensors(c):
    """(name, shape, how it is cut), in the order they are stored in."""
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    nope, rope, value, rank = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"], c["kv_lora_rank"]

    def mlp(name, width, gate, down):
        yield name + ".gate_proj.weight", (width, hidden), gate
        yield name + ".up_proj.weight", (width, hidden), gate
        yield name + ".down_proj.weight", (hidden, width), down

    yield "model.embed_tokens.weight", (c["vocab_size"], hidden), ROWS
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,), WHOLE
        yield layer + "self_attn.q_proj.weight", (heads * (nope + rope), hidden), ROWS
        yield layer + "self_attn.kv_a_proj_with_mqa.weight", (rank + rope, hidden), WHOLE
        yield layer + "self_attn.kv_a_layernorm.weight", (rank,), WHOLE
        yield layer + "self_attn.kv_b_proj.weight", (heads * (nope + value), rank), ROWS
        yield layer + "self_attn.o_proj.weight", (hidden, heads * value), COLUMNS
        yield layer + "post_attention_layernorm.weight", (hidden,), WHOLE
        if i < c["first_k_dense_replace"]:
            yield from mlp(layer + "mlp", c["intermediate_size"], ROWS, COLUMNS)
            continue
        yield layer + "mlp.gate.weight", (c["n_routed_experts"], hidden), WHOLE
        yield layer + "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],), WHOLE
        for expert in range(c["n_routed_experts"]):
            yield from mlp(f"{layer}mlp.experts.{expert}", c["moe_intermediate_size"], EXPERT, EXPERT)
        yield from mlp(layer + "mlp.shared_experts", c["moe_intermediate_size"] * c["n_shared_experts"], ROWS, COLUMNS)
    yield "model.norm.weight", (hidden,), WHOLE
    yield "lm_head.weight", (c["vocab_size"], hidden), ROWS


class BigCheckpoint:
    def __init__(self, directory, gigabytes):
        self.directory, self.config = directory, sized(gigabytes)
        with open(self.path("config.json"), "w") as f:
            json.dump(self.config, f)
        shards, filled = [[]], 0
        for tensor in tensors(self.config):
            size = 2 * int(np.prod(tensor[1]))
            if shards[-1] and filled + size > min(SHARD_BYTES, gigabytes * 1e9 / 2):  # always more than one
                shards.append([])
                filled = 0
            shards[-1].append((*tensor, filled, size))
            filled += size
        self.tensors = []  # (name, shape, cut, shard, offset in its file, bytes)
        weight_map = {}
        for i, members in enumerate(shards):
            shard = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
            begin = self._write(shard, members)
            for name, shape, cut, offset, size in members:
                weight_map[name] = shard
                self.tensors.append((name, shape, cut, shard, begin + offset, size))
        self.bytes = sum(tensor[-1] for tensor in self.tensors)
        self.shards = sorted(set(weight_map.values()))
        with open(self.path("model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {"total_size": self.bytes}, "weight_map": weight_map}, f)

    def path(self, name):
        return os.path.join(self.directory, name)

    def _write(self, shard, members):
        header = {name: {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
                  for name, shape, _, offset, size in members}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        values = np.random.default_rng(len(shard)).normal(0, 0.02, 1 << 22).astype(np.float32)
        noise = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        left = sum(member[-1] for member in members)
        with open(self.path(shard), "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            while left > 0:
                left -= f.write(noise[:left])
            f.flush()
            os.fsync(f.fileno())
        return 8 + len(text)

    def kept(self, rank, ranks, tp):
        ranges = {shard: [] for shard in self.shards}
        experts = self.config["n_routed_experts"]
        for name, shape, cut, shard, at, size in self.tensors:
            if cut == EXPERT:
                expert = int(name.split(".experts.")[1].split(".")[0])
                if expert * ranks // experts == rank:
                    ranges[shard].append((at, at + size))
            elif cut == WHOLE:
                ranges[shard].append((at, at + size))
            elif cut == ROWS:
                part = size // tp
                ranges[shard].append((at + rank % tp * part, at + (rank % tp + 1) * part))
            else:
                row = size // shape[0]
                first, part = at + rank % tp * row // tp, row // tp
                ranges[shard] += [(first + r * row, first + r * row + part) for r in range(shape[0])]
        return ranges

    def pages(self, kept_of_ranks):
        """How many pages hold a byte that one of the ranks keeps; headers and their index, which all read, included."""
        total = 0
        for shard in self.shards:
            needed = np.zeros(os.path.getsize(self.path(shard)) // PAGE + 1, bool)
            header = self.tensors[[t[3] for t in self.tensors].index(shard)][4]
            for begin, end in [(0, header), *(r for kept in kept_of_ranks for r in kept[shard])]:
                needed[begin // PAGE:(end - 1) // PAGE + 1] = True
            total += int(needed.sum())
        return total
