#!/usr/bin/env python3
"""Real models, fetched for this check and never by tests/run: SmolLM2-135M-Instruct (Q4_1, Q8_0) answers as the
reference that dequantises to float32 (tests/golden/real_smollm2_135m.json), Gemma 3 270M (Q4_K, Q5_0, Q6_K) writes
sensible English; both through `atoll chat` and over HTTP, in several shapes of the cluster.

    tests/real_models/check.py [--directory DIR]      # some 320 MB; DIR: build/real_models
"""
import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

import models

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))
import safetensors_file  # noqa: E402
from cluster import ATOLL, GOLDEN, MPI_ENV, Server  # noqa: E402

LOGIT_TOLERANCE, LEAST_MARGIN = 2e-2, 1e-2
SHAPES = ({"ranks": 1, "tp": 1}, {"ranks": 4, "tp": 1})
# A base model goes on with a text; this template gives it the message as its beginning.
PLAIN_TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
FAILURES = []


def check(condition, message):
    if not condition:
        FAILURES.append(message)
        print("WRONG:", message, flush=True)


def run(*args, stdin=""):
    result = subprocess.run([ATOLL, *args], input=stdin, capture_output=True, text=True, timeout=900,
                            env={**os.environ, **MPI_ENV})
    if result.returncode != 0:
        raise RuntimeError(f"atoll {' '.join(args)}: {result.stderr[-2000:]}")
    return result.stdout


def flags(shape):
    return ["--ranks", str(shape["ranks"]), "--tp", str(shape["tp"])]


def tokens(model, cases):
    lines = "".join(json.dumps({"text": case["prompt"]}) + "\n" for case in cases)
    got = [json.loads(line) for line in run("tokenize", "--model", model, stdin=lines).split("\n")[:-1]]
    same = sum(answer["ids"] == case["ids"] and answer["decoded"] == case["prompt"] for answer, case in zip(got, cases))
    print(f"prompts tokenized as the reference does: {same} of {len(cases)}")
    check(same == len(cases), "ids of a prompt differ")


def logits(model, cases, shape):
    """[cases, ids, vocabulary] for each prompt with its greedy continuation."""
    longest = max(len(case["ids"]) + len(case["greedy"]) for case in cases)
    ids = np.zeros((len(cases), longest), np.int32)
    for row, case in zip(ids, cases):
        text = case["ids"] + case["greedy"]
        row[:len(text)] = text
    with tempfile.TemporaryDirectory() as directory:
        given, answer = os.path.join(directory, "in"), os.path.join(directory, "out")
        safetensors_file.write(given, {"input_ids": ids})
        run("score", "--model", model, "--input", given, "--output", answer, *flags(shape))
        return safetensors_file.read(answer)["logits"]


def against_reference(got, cases):
    """How many of each case's greedy ids precede the first small margin."""
    worst, same_ids, safe = 0, 0, []
    for rows, case in zip(got, cases):
        last = len(case["ids"]) - 1
        order = np.argsort(-rows[last], kind="stable")[:10]
        same_ids += list(order) == case["top_ids"]
        worst = max(worst, *np.abs(rows[last][case["top_ids"]] - case["top_logits"]))
        safe.append(len(case["greedy"]))
        for i, id in enumerate(case["greedy"]):
            second, first = np.sort(rows[last + i])[-2:]
            if first - second < LEAST_MARGIN:
                safe[-1] = i
                break
            if np.argmax(rows[last + i]) != id:
                check(False, f"{case['prompt']!r}: greedy id {i} is {np.argmax(rows[last + i])}, not {id}")
                break
    print(f"the ten likeliest ids in their order: {same_ids} of {len(cases)} prompts; logits differ by {worst:.4f} at most; "
          f"greedy ids with a margin of {LEAST_MARGIN}: {sum(safe)} of {sum(len(c['greedy']) for c in cases)}")
    check(same_ids == len(cases), "the ten likeliest ids differ")
    check(worst <= LOGIT_TOLERANCE, f"a logit differs by {worst}")
    return safe


def completed(server, prompt, **fields):
    status, text = server.post("/v1/completions", {"prompt": prompt, "temperature": 0, **fields})
    if status != 200:
        raise RuntimeError(text)
    return json.loads(text)["choices"][0]["text"]


def chatted(model, question, shape, *args):
    return run("chat", model, "--temperature", "0", "--max-tokens", "60", *flags(shape), *args, stdin=question + "\n")


def over_http(server, question):
    answer = server.chat([{"role": "user", "content": question}], max_tokens=60, temperature=0)
    check(answer.error is None, answer.error)
    return answer.text


def smollm2(model):
    with open(os.path.join(GOLDEN, "real_smollm2_135m.json")) as f:
        cases = json.load(f)
    tokens(model, cases)
    answers = [logits(model, cases, shape) for shape in SHAPES]
    check(all(np.array_equal(answers[0], other) for other in answers[1:]), "logits depend on the cluster's shape")
    safe = against_reference(answers[0], cases)
    question = "What is the capital of France?"
    with Server(model=model, **SHAPES[-1]) as server:
        same = 0
        for case, count in zip(cases, safe):
            if count == 0:  # nothing is said of it
                continue
            text = completed(server, case["prompt"], max_tokens=count, ignore_eos=True)
            same += case["text"].startswith(text.rstrip("\ufffd"))
            check(case["text"].startswith(text.rstrip("\ufffd")), f"{case['prompt']!r} goes on with {text!r}")
        print(f"greedy texts over HTTP: {same} of {sum(count > 0 for count in safe)}")
        answer = over_http(server, question)
    print(f"{question} {answer!r}")
    check("Paris" in answer, "it does not know Paris")
    check(chatted(model, question, SHAPES[0]).strip() == answer.strip(), "atoll chat answers in another way")


# Ordinary English that is nobody's: a model that is read wrongly finds it about as likely as noise.
ENGLISH = ("The old bridge over the river was closed for the winter, so the children had to walk the long way to school. "
           "In the evening their father lit the stove and told them how the village had looked when he was young.")
MOST_PERPLEXITY = 40


def published_tokens(model):
    golden = os.path.join(os.path.dirname(ROOT), "shared/golden/tokenizers/gemma3.jsonl.gz")
    if not os.path.exists(golden):
        print("SKIPPED: ../shared is not beside the repository; Gemma's tokenizer was NOT compared with the published one")
        return
    with gzip.open(golden, "rt") as f:
        cases = [json.loads(line) for line in f]
    # The file spells runs of spaces as spaces where tokenizer.json has the mark for them, so that a mark that a text
    # itself holds beside a space makes other tokens.
    cases = [case for case in cases if "\u2581" not in case["text"]]
    check(len(cases) >= 195, f"only {len(cases)} texts are compared")
    lines = "".join(json.dumps({"text": case["text"]}) + "\n" for case in cases)
    got = [json.loads(line) for line in run("tokenize", "--model", model, stdin=lines).split("\n")[:-1]]
    different = [case["text"] for answer, case in zip(got, cases) if answer["ids"] != case["ids"]]
    print(f"texts tokenized as the published tokenizer.json does: {len(cases) - len(different)} of {len(cases)}")
    check(not different, f"ids differ, first of {different[:1]}")


def perplexity(model):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as texts:
        texts.write(json.dumps({"text": ENGLISH}) + "\n" + json.dumps({"text": " ".join(reversed(ENGLISH.split()))}) + "\n")
        texts.flush()
        with tempfile.NamedTemporaryFile("r", suffix=".jsonl") as out:
            run("score", "--model", model, "--text", texts.name, "--output", out.name, *flags(SHAPES[0]))
            losses = [-np.mean(json.loads(line)["logprobs"]) for line in out.read().splitlines()]
    forward, backward = np.exp(losses)
    print(f"perplexity of an English text {forward:.1f}, of its words backwards {backward:.0f}")
    check(forward <= MOST_PERPLEXITY, f"an English text has a perplexity of {forward}")
    check(backward >= 10 * forward, "the order of words means nothing to it")


def gemma3(model):
    published_tokens(model)
    perplexity(model)
    # What follows for any model that knows English, however little it knows of the world.
    beginnings = {"Monday, Tuesday, Wednesday,": "Thursday, Friday", "The sun rises in the": "east",
                  "The three primary colours are red,": "blue",
                  "Once upon a time, there was a little fox who": " was "}
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write(PLAIN_TEMPLATE)
        template.flush()
        from_outside = ["--chat-template", template.name]
        with Server(model=model, args=from_outside, **SHAPES[-1]) as server:
            for beginning, word in beginnings.items():
                text = completed(server, beginning, max_tokens=60)
                print(f"{beginning}|{text}\n")
                check(word in text, f"{word!r} is not in {text!r}")
                check(over_http(server, beginning) == text, "a chat with the plain template is another text")
        check(chatted(model, beginning, SHAPES[0], *from_outside).strip() == text.strip(), "atoll chat answers in another way")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", default=os.path.join(ROOT, "build/real_models"))
    parser.add_argument("--only", choices=["smollm2", "gemma3"])
    args = parser.parse_args()
    for name, file, test in (("smollm2", models.SMOLLM2, smollm2), ("gemma3", models.GEMMA3, gemma3)):
        if args.only in (None, name):
            path = models.fetch(file, args.directory)
            print(f"== {file}", flush=True)
            test(path)
    print(f"{len(FAILURES)} wrong" if FAILURES else "as it should be")
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
