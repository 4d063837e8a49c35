#!/usr/bin/env python3
"""A model that is one GGUF file, or a split one: tokenizer and chat template come from its metadata. The file is the
shipped checkpoint, written as llama.cpp's converter would, so that every answer is known."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

import gguf_file
from cluster import ATOLL, MODEL, MPI_ENV, Server, chat_question, eval_cases

QUESTION, ANSWER = "What is 87 + 64?", "87 + 64 = 151."
IN_ONE = ["--transport", "inproc"]


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def run(*args, stdin=""):
    return subprocess.run([ATOLL, *args], input=stdin, capture_output=True, text=True, timeout=120,
                          env={**os.environ, **MPI_ENV})


def answer_of(*args, stdin=""):
    result = run(*args, stdin=stdin)
    check(result.returncode == 0, f"{args}: {result.stderr}")
    return result.stdout


def refusal_of(*args, says):
    result = run(*args, stdin=QUESTION)
    check(result.returncode == 2 and says in result.stderr, f"{args}: {result.returncode}, {result.stderr!r} lacks {says!r}")
    return result.stderr


class Files:
    def __init__(self, directory):
        self.directory = directory
        self.keys, self.tensors = gguf_file.of_checkpoint(MODEL)
        self.whole = self.write("tiny.gguf")
        os.mkdir(self.path("split"))
        self.split = gguf_file.write_split(self.path("split"), "tiny", self.keys, self.tensors, 3)

    def path(self, *parts):
        return os.path.join(self.directory, *parts)

    def write(self, name, without=(), **changed):
        keys = {key: v for key, v in self.keys.items() if not key.startswith(tuple(without))} if without else self.keys
        gguf_file.write(self.path(name), {**keys, **changed}, self.tensors)
        return self.path(name)


def served(files):
    cases = eval_cases(limit=16)
    with Server(model=files.whole, ranks=4, tp=2) as server:
        models = json.loads(server.get("/v1/models")[1])
        check([m["id"] for m in models["data"]] == ["tiny"], models)
        for case in cases:
            got = server.chat(case["messages"], max_tokens=case["max_tokens"], temperature=0)
            check((got.error, got.text, got.finish) == (None, case["reference"], case["finish"]),
                  f"{case['messages'][-1]}: {got.text!r} ({got.finish}) {got.error}, not {case['reference']!r}")
        body = {"prompt": f"<｜User｜>{QUESTION}<｜Assistant｜>", "max_tokens": 64, "temperature": 0}
        status, text = server.post("/v1/completions", body)
        check(status == 200 and json.loads(text)["choices"][0]["text"] == ANSWER, text)


def chatted(files):
    for model in (files.split[1], files.path("split")):
        shown = answer_of("chat", model, "--ranks", "2", "--temperature", "0", *IN_ONE, stdin=QUESTION + "\n")
        check(shown == ANSWER + "\n", f"{model}: {shown!r}")


def ends_by_spelling(files):
    """Converters state one end; the token that ends this model's turns is known by its spelling then."""
    other = files.write("ends.gguf", **{"tokenizer.ggml.eos_token_id": 2})
    shown = answer_of("chat", other, "--temperature", "0", "--max-tokens", "60", *IN_ONE, stdin=QUESTION)
    check(shown == ANSWER + "\n", f"with another end stated: {shown!r}")


def tokenized(files):
    lines = "".join(json.dumps(line) + "\n" for line in (
        {"text": "Tell a story about 3 dogs, 12 cups and Lena.\n\n  Ask!"},
        {"text": "<｜User｜>Hi<｜Assistant｜>"},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]},
        {"messages": [{"role": "nobody", "content": ""}]}))
    expected = answer_of("tokenize", "--model", MODEL, stdin=lines)
    check("unknown role nobody" in expected and len(expected.splitlines()) == 4, expected)
    for model in (files.whole, files.split[2], files.path("split")):
        check(answer_of("tokenize", "--model", model, stdin=lines) == expected, f"{model} tokenizes in another way")
    texts = "".join(lines.splitlines(keepends=True)[:2])
    check(answer_of("tokenize", "--tokenizer", files.whole, stdin=texts) == "".join(expected.splitlines(keepends=True)[:2]),
          "--tokenizer tokenizes in another way")
    plain = files.write("plain.gguf", **{"tokenizer.ggml.add_bos_token": False})
    ids = [json.loads(answer_of("tokenize", "--model", model, stdin='{"text": "Hi", "add_special": true}'))["ids"]
           for model in (plain, files.whole)]
    check(ids[1] == [0, *ids[0]], f"add_bos_token: {ids}")


def scored(files):
    texts, outputs = files.path("texts.jsonl"), []
    with open(texts, "w") as f:
        f.writelines(json.dumps({"text": case["reference"]}) + "\n" for case in eval_cases(limit=8)
                     if "'" not in case["reference"])
    for model in (MODEL, files.whole):
        out = files.path("scores.jsonl")
        shown = answer_of("score", model, "--text", texts, "--output", out, "--ranks", "2", "--tp", "2", *IN_ONE)
        with open(out) as f:
            outputs.append((shown, f.read()))
    check("perplexity" in outputs[0][0] and outputs[0] == outputs[1], f"scores differ: {outputs[0][0]} {outputs[1][0]}")


def inspected(files):
    facts = [json.loads(answer_of("inspect", model, "--json", "--ranks", "4", "--tp", "2"))
             for model in (files.whole, files.split[0], files.path("split"))]
    check(facts[0] == facts[1] == facts[2], "one file and three are not the same model")
    original = json.loads(answer_of("inspect", MODEL, "--json", "--ranks", "4", "--tp", "2"))
    check(facts[0]["parameters"] == original["parameters"], f"{facts[0]['parameters']} {original['parameters']}")


def without_template(files):
    bare = files.write("bare.gguf", without=["tokenizer.chat_template"])
    refusal_of("chat", bare, *IN_ONE, says="--chat-template FILE")
    template = files.path("mine.jinja")
    with open(template, "w") as f:
        f.write(files.keys["tokenizer.chat_template"])
    shown = answer_of("chat", bare, "--chat-template", template, "--temperature", "0", *IN_ONE, stdin=QUESTION)
    check(shown == ANSWER + "\n", f"with a template from outside: {shown!r}")
    refusal_of("chat", files.whole, "--chat-template", files.path("none.jinja"), *IN_ONE, says="none.jinja")
    with Server(model=bare, ranks=2, tp=1, transport="inproc") as server:
        status, text = server.post("/v1/completions", {"prompt": "<｜User｜>Hi", "max_tokens": 4, "temperature": 0})
        check(status == 200 and json.loads(text)["usage"]["completion_tokens"] > 0, text)
        status, text = server.post("/v1/chat/completions", chat_question())
        check(status == 400 and "no chat template" in text, text)


def without_tokenizer(files):
    os.mkdir(files.path("beside"))
    bare = files.write("beside/weights.gguf", without=["tokenizer.ggml.tokens", "tokenizer.ggml.m", "tokenizer.chat_template"])
    refusal_of("serve", bare, says="tokenizer.json")
    refusal_of("serve", files.path("beside"), says="no tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(MODEL, name), files.path("beside"))
    shown = answer_of("chat", files.path("beside"), "--temperature", "0", *IN_ONE, stdin=QUESTION)
    check(shown == ANSWER + "\n", f"with tokenizer.json beside the weights: {shown!r}")


def damaged(files):
    shutil.copy(files.split[0], files.path("tiny-00001-of-00003.gguf"))
    refusal_of("serve", files.path("tiny-00001-of-00003.gguf"), says="tiny-00002-of-00003.gguf")
    refusal_of("serve", files.path("nothing.gguf"), says="nothing.gguf")
    odd = files.write("odd.gguf", **{"tokenizer.ggml.pre": "unheard-of"})
    check(refusal_of("serve", odd, says="unheard-of").count("\n") <= 2, "more than a sentence")
    os.mkdir(files.path("two"))
    for name in ("a.gguf", "b.gguf"):
        os.symlink(files.whole, files.path("two", name))
    refusal_of("serve", files.path("two"), says="give the file")


def main():
    with tempfile.TemporaryDirectory(prefix="atoll-gguf-") as directory:
        files = Files(directory)
        for case in (tokenized, inspected, damaged, without_template, without_tokenizer, scored, ends_by_spelling, chatted, served):
            case(files)
            print(f"{case.__name__}: as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
