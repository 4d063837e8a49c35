#!/usr/bin/env python3
"""`atoll score` against the reference's logits, and byte-identical outputs over shapes, chunkings, transports and profiles.

  score_e2e.py          # every shape, chunk and transport, not every combination of them
  score_e2e.py --all    # every combination, in both profiles: some minutes
"""
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import safetensors_file as st
from cluster import ATOLL, GOLDEN, MODEL, MPI_ENV

SHAPES = [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 8)]
TOLERANCE, MARGIN = 1e-3, 2e-3
FAMILIES = ("llama3", "mistral", "qwen3", "qwen3_moe", "smollm3", "olmo2", "gemma3", "gemma3n", "llama4_scout",
            "llama4_maverick", "gpt2", "deepseek_v3-fp8", "qwen3_moe-fp8", "kimi_k2-int4")


def score(model, ids_path, out, ranks, tp, *args):
    run = subprocess.run(
        [ATOLL, "score", "--model", model, "--input", ids_path, "--output", out, "--ranks", str(ranks), "--tp", str(tp),
         *map(str, args)], env={**os.environ, **MPI_ENV}, capture_output=True, text=True, timeout=300)
    if run.returncode != 0:
        raise RuntimeError(f"score {model} {ranks}x{tp} {args} ended with {run.returncode}: {run.stderr[-2000:]}")
    with open(out, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def check_golden(name, golden, out, generated):
    got = st.read(out)
    worst = float(np.abs(got["logits"] - golden["logits"]).max())
    problems = [] if worst <= TOLERANCE else [f"{name}: logits differ by {worst}"]
    if generated:
        for i, (ours, theirs, margin) in enumerate(
                zip(got["generated_ids"][0], golden["greedy_ids"].reshape(-1), golden["greedy_margin"].reshape(-1))):
            if margin <= MARGIN:
                break
            if ours != theirs:
                problems.append(f"{name}: greedy id {i} is {ours}, the reference says {theirs} (margin {margin})")
                break
    return worst, problems


def config_of(path):
    with open(os.path.join(path, "config.json")) as f:
        config = json.load(f)
    return config.get("text_config", config)


def query_heads(path):
    config = config_of(path)
    return config.get("num_attention_heads") or config["n_head"]


def check_families(tmp):
    """The other families: golden in one rank; the same bytes in every shape that divides the heads, and over MPI."""
    failures = []
    for name in FAMILIES:
        path, ids, out = (os.path.join(*parts) for parts in ((GOLDEN, name), (tmp, f"{name}.ids"), (tmp, "out")))
        golden = st.read(os.path.join(path, "golden.safetensors"))
        st.write(ids, {"input_ids": golden["input_ids"]})
        generate = ["--generate", golden["greedy_ids"].size, "--prompt-length", 24]
        one = score(path, ids, out, 1, 1, "--transport", "inproc", *generate)
        worst, problems = check_golden(name, golden, out, True)
        failures += problems
        chunks = itertools.cycle((7, 32, 1))
        runs = [(ranks, tp, "inproc", next(chunks)) for ranks, tp in SHAPES[1:] if query_heads(path) % tp == 0]
        for ranks, tp, transport, chunk in [*runs, (4, 2, "mpi", 7)]:
            if score(path, ids, out, ranks, tp, "--transport", transport, "--chunk", chunk, *generate) != one:
                failures.append(f"{name}: {ranks} ranks, tp {tp}, {transport}, chunks of {chunk} give other bytes")
        for slices in (2, 4) if "num_experts_per_tok" in config_of(path) else ():
            if score(path, ids, out, 4, 2, "--transport", "inproc", "--chunk", 7, "--expert-slices", slices,
                     *generate) != one:
                failures.append(f"{name}: {slices} slices of each expert give other bytes")
        print(f"{name}: worst difference {worst:.2e}; one output in {len(runs) + 2} shapes", flush=True)
    return failures


def check_windows(tmp):
    """Layers that slide or chunk give blocks back: 256 tokens of KV cache hold two sequences of 700, bit for bit."""
    failures = []
    ids, out = os.path.join(tmp, "long.ids"), os.path.join(tmp, "out")
    st.write(ids, {"input_ids": np.random.default_rng(1).integers(0, 320, (2, 700), dtype=np.int32)})
    for name in ("gemma3", "gemma3n", "llama4_scout"):
        runs = [("--kv-tokens", 4096), ("--kv-tokens", 256), ("--kv-tokens", 256, "--chunk", 30)]
        digests = {score(os.path.join(GOLDEN, name), ids, out, 2, 2, "--transport", "inproc", "--generate", 30,
                         "--prompt-length", 600, *args) for args in runs}
        if len(digests) != 1:
            failures.append(f"{name}: the size of the KV cache changes the logits of long sequences")
    return failures


def runs_of(name, everything):
    """(ranks, tp, transport, chunk) of profile f32 and of profile bf16; chunk 0 is the whole prompt."""
    if everything:
        runs = [(r, t, transport, chunk) for r, t in SHAPES for transport in ("inproc", "mpi") for chunk in (0, 1, 7, 32)]
        return runs, runs
    runs = [(r, t, "inproc", c) for r, t in SHAPES for c in ((0, 1, 7, 32) if (r, t) == (4, 2) else (0,))]
    runs += [(8, 8, "mpi", 32), (2, 1, "mpi", 0)] if name == "tiny" else [(4, 2, "mpi", 7), (4, 4, "mpi", 0)]
    return runs, [(1, 1, "inproc", 0), (4, 2, "inproc", 7), (8, 8, "inproc", 32)]


def main():
    failures = []
    everything = "--all" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as tmp:
        out = os.path.join(tmp, "out.safetensors")
        models = {name: os.path.join(GOLDEN, name) for name in ("deepseek_v3", "kimi_k2", "moonlight")}
        models["tiny"] = MODEL
        for name, path in models.items():
            golden = st.read(os.path.join(path, "golden.safetensors"))
            ids = os.path.join(tmp, f"{name}.safetensors")
            st.write(ids, {"input_ids": golden["input_ids"]})
            count = golden["greedy_ids"].size
            prompt = 64 if name == "tiny" else 24
            generate = ["--generate", count, "--prompt-length", prompt]
            worst, counts = None, {}
            for profile, runs in zip(("f32", "bf16"), runs_of(name, everything)):
                hashes = {}
                for ranks, tp, transport, chunk in runs:
                    args = ["--transport", transport, "--profile", profile, *generate]
                    digest = score(path, ids, out, ranks, tp, *args, *(["--chunk", chunk] if chunk else []))
                    hashes.setdefault(digest, []).append((ranks, tp, transport, chunk))
                    if worst is None:
                        worst, problems = check_golden(name, golden, out, True)
                        failures += problems
                if len(hashes) != 1:
                    failures.append(f"{name}, profile {profile}: outputs differ: {sorted(hashes.values())}")
                counts[profile] = f"{len(runs)} {profile} runs, {len(hashes)} distinct output"
            print(f"{name}: worst difference {worst:.2e} (limit {TOLERANCE}); {'; '.join(counts.values())}", flush=True)
        failures += check_families(tmp) + check_windows(tmp)
    print("\n".join(failures) or "golden, and the same bits in every shape")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
