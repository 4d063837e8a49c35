#!/usr/bin/env python3
"""`atoll bench engine` on small models: its rows add up; weights kept in INT8 and INT4 hardly change the trained model's perplexity."""
import json
import os
import subprocess
import sys
import tempfile

from cluster import ATOLL, GOLDEN, MODEL, MPI_ENV, eval_cases


def run(*args):
    return subprocess.run([ATOLL, *map(str, args)], env={**os.environ, **MPI_ENV}, capture_output=True, text=True, timeout=200)


def check(condition, what, failures):
    if not condition:
        failures.append(what)


def bench(failures):
    config = os.path.join(GOLDEN, "v3mini_2layers.json")
    for ranks, tp, weights in ((1, 1, "int4"), (2, 2, "stored")):
        done = run("bench", "engine", "--config", config, "--weights", weights, "--ranks", ranks, "--tp", tp, "--transport",
                   "inproc", "--prompt", "16,70", "--decode", 3, "--batch", "1,4", "--repeats", 1, "--limit-memory", 0, "--json")
        if done.returncode != 0:
            failures.append(f"bench engine {weights}: {done.stderr[-1000:]}")
            continue
        report = json.loads(done.stdout)
        rows = {row["name"]: row for row in report["rows"]}
        check(list(rows) == ["prompt 16", "prompt 70", "decode 1", "decode 4"], f"rows are {list(rows)}", failures)
        for name, row in rows.items():
            phases = sum(row["phase_seconds"].values())
            check(abs(phases - row["step_seconds"]) < 1e-3 + 0.01 * row["step_seconds"],
                  f"{name}: phases add up to {phases}, a step takes {row['step_seconds']}", failures)
            check(row["phase_seconds"]["experts"] > 0 and row["phase_seconds"]["attention"] > 0, f"{name}: no time", failures)
            check(row["tokens_per_s"] > 0 and row["weight_bytes"] > 0 and row["operations"] > 0, f"{name}: {row}", failures)
        check(rows["decode 4"]["weight_bytes"] > rows["decode 1"]["weight_bytes"], "four streams read no more experts", failures)
        # A row reads all of its weights and does two operations with each: 4.5 bits and the rest of it in bf16.
        if weights == "int4":
            ratio = rows["decode 1"]["weight_bytes"] / rows["decode 1"]["operations"]
            check(0.28 < ratio < 1, f"{ratio} bytes an operation", failures)
        print(f"{weights} {ranks}x{tp}: " + ", ".join(f"{n} {r['tokens_per_s']:.1f}/s" for n, r in rows.items()), flush=True)
    for args, says in ((("--config", config, "--batch", "0"), "--batch wants numbers of at least 1"),
                       (("--prompt", "4"), "give one of --config and --model"),
                       (("--config", config, "--weights", "int3"), "--weights int3 is unknown; stored, bf16, fp8, int8, int4, q4_0, q8_0, q4_k, q6_k and native exist"),
                       (("--config", config, "--ranks", "2", "--batch", "1"), "--batch 1 is not even over 2")):
        done = run("bench", "engine", *args)
        check(done.returncode == 2 and says in done.stderr, f"{args}: {done.returncode} {done.stderr}", failures)


def perplexity(failures):
    with tempfile.TemporaryDirectory() as tmp:
        texts = os.path.join(tmp, "texts.jsonl")
        with open(texts, "w") as out:
            for case in eval_cases()[:60]:
                out.write(json.dumps({"text": case["messages"][-1]["content"] + " " + case["reference"]}) + "\n")
        losses(texts, failures)


def losses(texts, failures):
    found = {}
    for weights in ("stored", "int8", "int4", "q4_k"):
        done = run("score", "--model", MODEL, "--transport", "inproc", "--text", texts, "--weights", weights, "--head-weights",
                   weights, "--weight-errors")
        if done.returncode != 0:
            failures.append(f"score --weights {weights}: {done.stderr[-1000:]}")
            return
        found[weights] = float(done.stdout.split("loss")[1].split()[0])
        moved = done.stdout.count(": off by ") + done.stderr.count(": off by ")
        print(f"{weights}: loss {found[weights]}, {moved} matrices moved", flush=True)
        check(moved > 400 if weights != "stored" else moved == 0, f"{weights}: {moved} matrices reported", failures)
    check(abs(found["int8"] - found["stored"]) < 0.01, "INT8 changes the loss", failures)
    check(abs(found["int4"] - found["stored"]) < 0.2, "INT4 changes the loss much", failures)
    check(abs(found["q4_k"] - found["stored"]) < 0.2, "Q4_K changes the loss much", failures)


def main():
    failures = []
    bench(failures)
    perplexity(failures)
    for failure in failures:
        print("FAILED:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
