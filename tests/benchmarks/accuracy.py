#!/usr/bin/env python3
"""What the formats that weights are kept in cost in accuracy: the trained checkpoint's questions, and its loss.

    ATOLL_BIN=build/release/bin python3 tests/benchmarks/accuracy.py [--weights stored,int8,int4,q4_k] [--questions 467]

For each format, the head in it too (and WEIGHTS@PROFILE: under another numerics profile, stored@bf16-kv8): answers that are the bf16 reference's word for word, answers that are right (where
there is a true answer), and the mean loss of a token over the questions and reference answers, teacher-forced. Prints
rows of PERFORMANCE.md's table.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from cluster import ATOLL, MODEL, Server, eval_cases  # noqa: E402

FORMATS = "stored,stored@bf16,stored@bf16-kv8,fp8,int8,int4,q8_0,q6_k,q4_k,q4_0"


def flags_of(name):
    weights, _, profile = name.partition("@")
    return ["--weights", weights, "--head-weights", weights, "--profile", profile or "f32"]


def answers(weights, cases):
    flags = flags_of(weights)
    with Server(ranks=1, tp=1, args=flags) as server:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            found = list(pool.map(lambda case: server.chat(case["messages"], max_tokens=case["max_tokens"], temperature=0),
                                  cases))
    for answer in found:
        if answer.error:
            raise SystemExit(f"{weights}: {answer.error}")
    same = sum(answer.text == case["reference"] for case, answer in zip(cases, found))
    known = [(case["answer"], answer.text) for case, answer in zip(cases, found) if case.get("answer")]
    return same, sum(true == text for true, text in known), len(known)


def loss(weights, cases):
    with tempfile.TemporaryDirectory() as directory:
        texts = os.path.join(directory, "texts.jsonl")
        with open(texts, "w") as out:
            for case in cases:
                out.write(json.dumps({"text": case["messages"][-1]["content"] + " " + case["reference"]}) + "\n")
        done = subprocess.run([ATOLL, "score", "--model", MODEL, "--transport", "inproc", "--text", texts,
                               *flags_of(weights)], capture_output=True, text=True, check=True)
    return float(done.stdout.split("loss")[1].split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--weights", default=FORMATS)
    parser.add_argument("--questions", type=int)
    args = parser.parse_args()
    cases = eval_cases(args.questions)
    print(f"| weights and head | the reference's words, of {len(cases)} | right | loss of a token |\n|---|---|---|---|")
    for weights in args.weights.split(","):
        same, right, known = answers(weights, cases)
        print(f"| {weights} | {same} | {right} of {known} | {loss(weights, cases):.4f} |", flush=True)


if __name__ == "__main__":
    main()
