#!/usr/bin/env python3
"""`atoll tokenize` on a tokenizer's file and on a template's file, without a model: small ones of our own, and where
../shared is beside the repository the published ones with all their golden lines."""
import base64
import gzip
import json
import os
import subprocess
import sys
import tempfile

from cluster import ATOLL, GOLDEN, MODEL, SOURCE

SHARED = os.path.join(os.path.dirname(SOURCE), "shared")
# golden/tokenizers/<name>.jsonl.gz: what ../shared/tokenizers/<file> makes of texts
PUBLISHED = {
    "deepseek_v3": "deepseek_v3/tokenizer.json.gz", "qwen3": "qwen3/tokenizer.json.gz",
    "gemma3": "gemma3/tokenizer.json.gz", "llama3_1": "llama3_1/tokenizer.json.gz",
    "gpt2": "gpt2.tiktoken.json.gz", "cl100k_base": "cl100k_base.tiktoken.json.gz",
    "mistral_tekken": "mistral_tekken_240718.json.gz",
}


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def tokenize(lines, *args):
    """One answer for each line."""
    stdin = "".join(line + "\n" if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    result = subprocess.run([ATOLL, "tokenize", *args], input=stdin, capture_output=True, text=True, timeout=120)
    check(result.returncode == 0, f"{args}: {result.stderr}")
    answers = [json.loads(line) for line in result.stdout.split("\n")[:-1]]
    check(len(answers) == len(lines), f"{args}: {len(answers)} answers to {len(lines)} lines")
    return answers


def refused(*args, says):
    result = subprocess.run([ATOLL, "tokenize", *args], input="", capture_output=True, text=True, timeout=60)
    check(result.returncode == 2 and says in result.stderr and result.stderr.count("\n") == 1,
          f"{args}: {result.returncode} {result.stderr!r} lacks {says!r}")


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write(text if isinstance(text, str) else json.dumps(text))
    return path


def a_tokenizer_json():
    path = os.path.join(MODEL, "tokenizer.json")
    with open(os.path.join(GOLDEN, "tokenizer_tiny.jsonl")) as f:
        golden = [json.loads(line) for line in f]
    golden = [case for case in golden if "text" in case]
    check(len(golden) >= 20, f"only {len(golden)} golden lines")
    for case, answer in zip(golden, tokenize([{"text": case["text"]} for case in golden], "--tokenizer", path)):
        check(answer == {"ids": case["ids"], "text": case["text"], "decoded": case["decoded"]}, f"{answer} is not {case}")


def ranks_of_both_kinds(directory):
    """Single bytes, "He", "ll", "Hell" and one special token: ids can be told by hand."""
    tokens = [bytes([b]) for b in range(256)] + [b"He", b"ll", b"Hell"]
    expression = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
    coded = [base64.b64encode(token).decode() for token in tokens]
    tiktoken = write(directory, "ranks.json", {"pat_str": expression, "special_tokens": {"<|end|>": 300},
                                               "bpe_ranks": "! 0 " + " ".join(coded)})
    tekken = write(directory, "tekken.json", {
        "config": {"pattern": expression, "default_num_special_tokens": 4, "default_vocab_size": 263},
        "vocab": [{"rank": i, "token_bytes": code, "token_str": None} for i, code in enumerate(coded)]})
    for path, first in ((tiktoken, 0), (tekken, 4)):
        answer, = tokenize([{"text": "Hello é"}], "--tokenizer", path)
        expected = [258, ord("o"), ord(" "), 0xC3, 0xA9]
        check(answer["ids"] == [i + first for i in expected] and answer["decoded"] == "Hello é", f"{path}: {answer}")
    answer, = tokenize([{"text": "He<|end|>"}], "--tokenizer", tiktoken)
    check(answer["ids"] == [256, 300] and answer["decoded"] == "He<|end|>", answer)


def a_template(directory):
    template = write(directory, "a.jinja", """{{ bos_token }}
{%- for m in messages %}
{%- if m.role == 'robot' %}{{ raise_exception('robots are not served') }}{% endif %}
[{{ m.role }}]{{ m.content }}{{ eos_token }}
{%- endfor %}
{%- if tools %} tools={{ tools | tojson }}{% endif %}
{%- if enable_thinking is defined and not enable_thinking %} no thoughts{% endif %}
{%- if add_generation_prompt %} [me {{ strftime_now('%d.%m.%Y') }}]{% endif %}""")
    hello = [{"role": "user", "content": "Hi"}]
    lines = [{"messages": hello}, {"messages": hello, "add_generation_prompt": False},
             {"messages": hello, "tools": [{"z": 1, "a": "é"}], "add_generation_prompt": False},
             {"messages": hello, "enable_thinking": False},
             {"messages": [{"role": "robot", "content": ""}]}, {"text": "Hi"}, "not JSON", {"messages": []}]
    args = ["--template", template, "--bos", "<b>", "--eos", "<e>", "--date", "2024-02-29"]
    answers = tokenize(lines, *args)
    check([answer.get("text") for answer in answers[:4]] == [
        "<b>[user]Hi<e> [me 29.02.2024]", "<b>[user]Hi<e>", '<b>[user]Hi<e> tools=[{"z": 1, "a": "é"}]',
        "<b>[user]Hi<e> no thoughts [me 29.02.2024]"], answers)
    for answer, says in zip(answers[4:7], ("robots are not served", "no tokenizer", "not a JSON object")):
        check(set(answer) == {"error"} and says in answer["error"], answer)
    check(answers[7] == {"text": "<b> [me 29.02.2024]"}, answers[7])
    both, = tokenize(lines[1:2], *args, "--tokenizer", os.path.join(MODEL, "tokenizer.json"))
    check(both["text"] == both["decoded"] == "<b>[user]Hi<e>" and both["ids"], both)


def what_cannot_be(directory):
    refused(says="--tokenizer FILE")
    refused("--tokenizer", "/nowhere/tokenizer.json", says="/nowhere/tokenizer.json")
    refused("--template", "/nowhere/a.jinja", says="/nowhere/a.jinja")
    refused("--tokenizer", write(directory, "broken.json", "{"), says="broken.json")
    refused("--template", write(directory, "b.jinja", "x"), "--date", "tomorrow", says="YYYY-MM-DD")
    refused("--template", os.path.join(directory, "b.jinja"), "--date", "2024-13-45", says="YYYY-MM-DD")


def published_tokenizers():
    lines = 0
    for name, file in PUBLISHED.items():
        with gzip.open(os.path.join(SHARED, "golden/tokenizers", name + ".jsonl.gz"), "rt") as f:
            golden = [json.loads(line) for line in f]
        answers = tokenize([{"text": case["text"]} for case in golden], "--tokenizer", os.path.join(SHARED, "tokenizers", file))
        wrong = [(case, answer) for case, answer in zip(golden, answers)
                 if (answer.get("ids"), answer.get("decoded")) != (case["ids"], case["decoded"])]
        check(not wrong, f"{name}: {len(wrong)} lines differ, first {wrong[:1]}")
        lines += len(golden)
    check(lines == 200 * len(PUBLISHED), f"{lines} golden lines")
    return lines


def published_templates():
    with open(os.path.join(SHARED, "golden/chat_renders.json")) as f:
        golden = json.load(f)
    texts = errors = 0
    for file, renders in golden["renders"].items():
        answers = tokenize([golden["cases"][case] for case in renders], "--template", os.path.join(SHARED, "chat_templates", file),
                           "--bos", golden["bos_token"], "--eos", golden["eos_token"], "--date", golden["date_now"][:10])
        for case, answer in zip(renders, answers):
            if "text" in renders[case]:
                check(answer == renders[case], f"{file} {case}: {answer} is not {renders[case]}")
                texts += 1
            else:
                words = renders[case]["error"].split(": ", 1)[1]
                check(words in answer.get("error", ""), f"{file} {case}: {answer} lacks {words!r}")
                errors += 1
    check(texts + errors == 120 and errors == 4, f"{texts} texts, {errors} errors")
    return texts + errors


def main():
    a_tokenizer_json()
    with tempfile.TemporaryDirectory(prefix="atoll-tokenize-") as directory:
        ranks_of_both_kinds(directory)
        a_template(directory)
        what_cannot_be(directory)
    print("our own files: as they should be")
    if not os.path.isdir(SHARED):
        print("SKIPPED: ../shared is not beside the repository; published tokenizers and templates were NOT checked")
        return 0
    print(f"published tokenizers: {published_tokenizers()} golden lines; templates: {published_templates()} renders")
    return 0


if __name__ == "__main__":
    sys.exit(main())
