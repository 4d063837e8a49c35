#!/usr/bin/env python3
"""Our tokenizer and Hugging Face's `tokenizers`, in one run on the same texts: MB a second of processor time, one core, and
the numbers of ids.

  deploy/build release tokenizer_benchmark && tests/benchmarks/tokenizer_compare.py [--text FILE]

Theirs is installed into a virtual environment of its own in build/. What is not there is SKIPPED, and said.
"""
import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = os.path.join(ROOT, "build/release/benchmarks/tokenizer_benchmark")
FOLDER = os.environ.get("ATOLL_TOKENIZERS", os.path.join(ROOT, "../shared/tokenizers"))
VENV = os.path.join(ROOT, "build/tokenizers-venv")
LICENCES = ("Apache-2.0", "Artistic", "GFDL-1.3", "GPL-1", "GPL-2", "GPL-3", "LGPL-2", "MPL-1.1", "MPL-2.0")
THEIRS = """
import gzip, json, sys, time
from tokenizers import Tokenizer
result = {}
for name, file, text_file in json.load(sys.stdin):
    text = open(text_file, encoding="utf-8", errors="replace", newline="").read()
    tokenizer = Tokenizer.from_str(gzip.open(file, "rt", encoding="utf-8").read())
    best, ids = 1e9, 0
    for _ in range(2):
        start = time.process_time()
        ids = len(tokenizer.encode(text, add_special_tokens=False).ids)
        best = min(best, time.process_time() - start)
    result[name] = (len(text.encode()) / best / 1e6, ids)
print(json.dumps(result))
"""


def english(path):
    """What tokenizer_benchmark.cc takes: the file, or the licence texts, repeated to 4 MiB."""
    if path:
        data = open(path, "rb").read()
    else:
        names = [os.path.join("/usr/share/common-licenses", name) for name in LICENCES]
        data = b"".join(open(name, "rb").read() for name in names if os.path.exists(name))
    return (data * ((4 << 20) // max(1, len(data)) + 1))[:4 << 20]


def theirs(cases):
    python = os.path.join(VENV, "bin/python")
    if not os.path.exists(python):
        made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
        if made.returncode != 0:
            print(f"SKIPPED: no virtual environment: {(made.stderr or made.stdout).strip()[-200:]}")
            return {}
    if subprocess.run([python, "-c", "import tokenizers"], capture_output=True).returncode != 0:
        got = subprocess.run([python, "-m", "pip", "install", "--quiet", "tokenizers"], capture_output=True, text=True)
        if got.returncode != 0:
            print(f"SKIPPED: tokenizers cannot be installed: {got.stderr.strip()[-200:]}")
            return {}
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    done = subprocess.run([python, "-c", THEIRS], input=json.dumps(cases), capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        print(f"SKIPPED: tokenizers failed: {done.stderr.strip()[-300:]}")
        return {}
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="a file of English; default: the licence texts that Debian installs")
    arguments = parser.parse_args()
    if not os.path.isdir(FOLDER):
        print(f"SKIPPED: {FOLDER} is not there; nothing was measured")
        return 0
    text = english(arguments.text)
    if not text:
        print("SKIPPED: no English text; name a file with --text")
        return 0
    solid = text.translate(None, b" \n\t\f\r")[:1 << 20]
    cases = []
    for name, folder, data in (("BM_EnglishDeepseek", "deepseek_v3", text),
                               ("BM_OneMegabyteWithoutASpaceGemma", "gemma3", solid)):
        path = os.path.join(ROOT, "build", name + ".txt")
        with open(path, "wb") as file:
            file.write(data)
        cases.append((name, os.path.join(FOLDER, folder, "tokenizer.json.gz"), path))
    environment = {**os.environ, "ATOLL_TOKENIZERS": FOLDER, **({"ATOLL_TEXT": arguments.text} if arguments.text else {})}
    ours = json.loads(subprocess.run([OURS, "--benchmark_format=json"], env=environment, check=True, capture_output=True,
                                     text=True).stdout)["benchmarks"]
    other = theirs(cases)
    print(f"{'':34}{'ours MB/s':>12}{'ids':>10}{'theirs MB/s':>13}{'ids':>10}")
    same = True
    for row in ours:
        if "MB/s" not in row:
            print(f"{row['name']:34}{row.get('error_message', 'no result')}")
            continue
        speed, ids = other.get(row["name"], (None, None))
        print(f"{row['name']:34}{row['MB/s']:12.1f}{int(row['ids']):10}" +
              (f"{speed:13.1f}{ids:10}" if speed else f"{'SKIPPED':>13}"))
        same = same and ids in (None, int(row["ids"]))
    if not same:
        print("the numbers of ids differ")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
