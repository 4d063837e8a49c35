#!/usr/bin/env python3
"""Flags, files and configs that are wrong: one clear sentence, exit code not 0, before any rank is launched."""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile

from cluster import ATOLL, GOLDEN, MODEL, MPI_ENV


def run(*args, stdin=""):
    return subprocess.run([ATOLL, *args], input=stdin, capture_output=True, text=True, timeout=60,
                          env={**os.environ, **MPI_ENV})


def model_with(tmp, name, edit):
    """A copy of the small fixture whose config.json went through `edit`; weights are links."""
    directory = os.path.join(tmp, name)
    os.makedirs(directory)
    source = os.path.join(GOLDEN, "deepseek_v3")
    for file in os.listdir(source):
        if file != "config.json":
            os.symlink(os.path.join(source, file), os.path.join(directory, file))
    with open(os.path.join(source, "config.json")) as f:
        text = edit(f.read())
    with open(os.path.join(directory, "config.json"), "w") as f:
        f.write(text)
    return directory


def setting(key, value):
    def edit(text):
        config = json.loads(text)
        config[key] = value
        return json.dumps(config)
    return edit


def without(key):
    def edit(text):
        config = json.loads(text)
        del config[key]
        return json.dumps(config)
    return edit


def cases(tmp):
    """(name, arguments, a word that the message must hold)"""
    golden = os.path.join(GOLDEN, "deepseek_v3")
    ids = os.path.join(golden, "golden.safetensors")
    out = os.path.join(tmp, "out.safetensors")
    yield "no subcommand", [], "subcommand"
    yield "unknown subcommand", ["fly"], "fly"
    yield "unknown flag", ["serve", "--model", MODEL, "--wings", "2"], "wings"
    yield "no model", ["serve"], "model"
    yield "missing model", ["serve", "--model", "/nowhere"], "/nowhere"
    yield "ranks 0", ["serve", "--model", MODEL, "--ranks", "0"], "ranks"
    yield "ranks not a number", ["serve", "--model", MODEL, "--ranks", "many"], "many"
    yield "tp 3", ["serve", "--model", MODEL, "--ranks", "3", "--tp", "3"], "tp"
    yield "tp does not divide ranks", ["serve", "--model", MODEL, "--ranks", "3", "--tp", "2"], "3"
    yield "tp 16 heads 8", ["serve", "--model", MODEL, "--ranks", "16", "--tp", "16"], "tp"
    yield "more ranks than experts", ["serve", "--model", MODEL, "--ranks", "64", "--tp", "1"], "experts"
    yield "profile", ["serve", "--model", MODEL, "--profile", "f8"], "f32"
    yield "kv too small", ["serve", "--model", MODEL, "--kv-tokens", "1"], "kv"
    yield "kv does not fit", ["serve", "--model", MODEL, "--kv-tokens", "999999999999"], "kv"
    yield "ranks below 0", ["serve", "--model", MODEL, "--ranks", "-1"], "ranks"
    yield "batch of nothing", ["serve", "--model", MODEL, "--max-batch-tokens", "0"], "batch"
    yield "threads 0", ["serve", "--model", MODEL, "--threads", "0"], "threads"
    yield "silence 0", ["serve", "--model", MODEL, "--silence-timeout", "0"], "silence"
    yield "queue 0", ["serve", "--model", MODEL, "--max-num-queued-reqs", "0"], "max-num-queued-reqs"
    yield "shutdown below 0", ["serve", "--model", MODEL, "--shutdown-timeout", "-1"], "shutdown"
    yield "hosts missing", ["serve", "--model", MODEL, "--hosts", "/nowhere/hosts"], "/nowhere/hosts"
    yield "model is a file", ["serve", "--model", "/etc/passwd"], "/etc/passwd"
    yield "model without config", ["serve", "--model", tmp], "config.json"
    yield "serve without a tokenizer", ["serve", "--model", golden], "tokenizer"
    yield "model twice", ["serve", MODEL, "--model", MODEL], "model"
    yield "chat without a model", ["chat"], "model"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for flags in (["--port", port, "--grpc-port", "0"], ["--port", "0", "--grpc-port", port],
                      ["--port", "0", "--grpc-port", "0", "--control-address", f"127.0.0.1:{port}"]):
            yield f"{flags[-2]} taken", ["serve", "--model", MODEL, *flags], port
    for host in ("nowhere", "127.0.0.1.5"):
        yield f"host {host}", ["serve", "--model", MODEL, "--port", "0", "--grpc-port", "0", "--host", host], host
    yield "port 70000", ["serve", "--model", MODEL, "--port", "70000", "--grpc-port", "0"], "70000"
    yield "grpc port 70000", ["serve", "--model", MODEL, "--port", "0", "--grpc-port", "70000"], "70000"
    yield "transport", ["score", "--model", MODEL, "--input", ids, "--output", out, "--transport", "pigeon"], "inproc"
    yield "score without input", ["score", "--model", golden, "--output", out], "input"
    yield "score missing input", ["score", "--model", golden, "--input", "/nowhere.st", "--output", out], "/nowhere.st"
    yield "score input is no safetensors", ["score", "--model", golden, "--input", "/etc/passwd", "--output", out], "passwd"
    yield "score chunk 0", ["score", "--model", golden, "--input", ids, "--output", out, "--chunk", "-1"], "chunk"
    yield "score generates -1", ["score", "--model", golden, "--input", ids, "--output", out, "--generate", "-1"], "generate"
    yield "score both inputs", ["score", "--model", golden, "--input", ids, "--text", ids, "--output", out], "one of"
    yield "score output nowhere", ["score", "--model", golden, "--input", ids, "--output", "/nowhere/o.st", "--transport", "inproc"], "/nowhere/o.st"
    yield "score text missing", ["score", "--model", MODEL, "--text", "/nowhere.jsonl", "--transport", "inproc"], "/nowhere.jsonl"
    yield "score text is no JSON", ["score", "--model", MODEL, "--text", "/etc/passwd", "--transport", "inproc"], "line 1"
    yield "inspect missing", ["inspect", "--model", "/nowhere/config.json"], "/nowhere"
    yield "tokenize without a tokenizer", ["tokenize", "--model", golden], "tokenizer"
    for name, edit, word in (
            ("not json", lambda text: text[:50], "config.json"),
            ("an array", lambda text: "[]", "config.json"),
            ("hidden_size missing", without("hidden_size"), "hidden_size"),
            ("hidden_size negative", setting("hidden_size", -1), "hidden_size"),
            ("hidden_size a string", setting("hidden_size", "big"), "hidden_size"),
            ("hidden_size absurd", setting("hidden_size", 2**62), "hidden_size"),
            ("layers 0", setting("num_hidden_layers", 0), "num_hidden_layers"),
            ("top_k above experts", setting("num_experts_per_tok", 99), "num_experts_per_tok"),
            ("groups do not divide", setting("n_group", 3), "n_group"),
            ("model_type unknown", setting("model_type", "mamba"), "mamba"),
            ("activation unknown", setting("hidden_act", "relu"), "hidden_act"),
            ("rope type unknown", setting("rope_scaling", {"type": "magic", "factor": 2}), "rope")):
        yield f"config: {name}", ["score", "--model", model_with(tmp, name.replace(" ", "_"), edit), "--input", ids,
                                  "--output", out], word
    weights = os.path.join(golden, "model.safetensors")
    with open(weights, "rb") as f:
        data = f.read()
    for name, bad in (("empty", b""), ("header only", data[:8]), ("cut header", data[:500]), ("cut data", data[:-1000]),
                      ("huge header", b"\xff" * 8 + data[8:]), ("lying offset", data.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1)),
                      ("wrong name", data.replace(b"lm_head.weight", b"lm_tail.weight", 1))):
        directory = os.path.join(tmp, "weights_" + name.replace(" ", "_"))
        shutil.copytree(golden, directory, ignore=shutil.ignore_patterns("model.safetensors"))
        with open(os.path.join(directory, "model.safetensors"), "wb") as f:
            f.write(bad)
        yield f"weights: {name}", ["score", "--model", directory, "--input", ids, "--output", out, "--ranks", "2",
                                   "--transport", "inproc"], "safetensors" if name != "wrong name" else "lm_head"


def main():
    failures, count = [], 0
    with tempfile.TemporaryDirectory() as tmp:
        for name, args, word in cases(tmp):
            count += 1
            try:
                result = run(*args)
            except subprocess.TimeoutExpired:
                failures.append(f"{name}: still running after 60 s")
                continue
            message = result.stderr + result.stdout
            if " ready" in message and not name.startswith("score"):
                failures.append(f"{name}: ranks were started")
            if result.returncode == 0:
                failures.append(f"{name}: exit code 0")
            elif result.returncode < 0 or "broken invariant" in message or "terminate called" in message:
                failures.append(f"{name}: crashed ({result.returncode}): {message[-300:]}")
            elif word.lower() not in message.lower():
                failures.append(f"{name}: the message does not say {word!r}: {message[-300:]}")
    for args, word in ((["--help"], "chat"), (["serve", "--help"], "--shutdown-timeout"), (["chat", "--help"], "--system"),
                       (["score", "--help"], "--generate"), (["tokenize", "--help"], "--model"), (["inspect", "--help"], "--json"),
                       (["--version"], "atoll"), (["inspect", "--model", MODEL], "experts"),
                       (["inspect", MODEL, "--ranks", "4", "--tensor-parallel-size", "2"], "rank"),
                       (["inspect", os.path.join(GOLDEN, "kimi_k2", "config.json"), "--ranks", "4"], "rank")):
        result = run(*args)
        if result.returncode != 0 or word not in result.stdout:
            failures.append(f"{args}: {result.returncode} {result.stdout[-300:]} {result.stderr[-300:]}")
    result = run("tokenize", "--model", MODEL, stdin='{"text": "Hello"}\n{"messages": [{"role": "user", "content": "Hi"}]}\n')
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    if result.returncode != 0 or len(lines) != 2 or lines[0]["decoded"] != "Hello" or "<｜User｜>Hi" not in lines[1]["text"]:
        failures.append(f"tokenize: {result.stdout} {result.stderr}")
    print("\n".join(failures) or f"{count} bad inputs, each refused with a clear message")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
