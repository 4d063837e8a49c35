#!/usr/bin/env python3
"""Each folder opens with a README.md of at most 40 lines, and what a README names exists.

A name is a word between backticks that looks like a path: `spec/model_spec.h`, `arch/`, `rank.{h,cc}`, `worker/engine` for
engine.h and engine.cc. It is looked for below the README's folder and from the root. `<name>` and `*` stand for anything.
`Suite.Test`, `Suite.*` and `kill_e2e` are tests.
"""
import glob
import os
import re
import sys

from source_tree import FOLDERS, ROOT, read, report, sources

MOST_LINES = 40
ENDINGS = (".h", ".cc", ".py", ".proto", ".txt", ".md", ".suppressions", ".yml", ".yaml")
OF_OTHERS = ("mpi.h", "nccl.h", "cuda_runtime.h")
# Made by a build, or a model's file wherever the model lies.
ELSEWHERE = re.compile(r"^(build|/|~)|\.(json|jsonl|safetensors|gguf|jinja)$")

NAME = re.compile(r"`([\w./<>*{},-]+)`")
TEST_NAME = re.compile(r"`([A-Z]\w+\.(?:[A-Z]\w+|\*)|\w+_(?:e2e|test))`")
DECLARATION = re.compile(r"^(?:TYPED_)?TEST(?:_[FP])?\((\w+), (\w+)\)", re.M)


def declared_tests(files):
    """Suite.Test and Suite.* of each test in {path: text}, and the programs' names."""
    found = {os.path.splitext(os.path.basename(path))[0] for path in files}
    for text in files.values():
        for suite, test in DECLARATION.findall(text):
            found |= {f"{suite}.{test}", f"{suite}.*"}
    return found


def spellings(name):
    """rank.{h,cc} is rank.h and rank.cc."""
    braces = re.match(r"(.*)\{(.+)\}(.*)", name)
    return [braces[1] + middle + braces[3] for middle in braces[2].split(",")] if braces else [name]


def is_path(name):
    if name in OF_OTHERS or ELSEWHERE.search(name) or TEST_NAME.fullmatch(f"`{name}`"):
        return False
    return name.endswith(ENDINGS) or "/" in name


def missing_names(text, exists):
    """exists: whether a path, seen from the README, is there."""
    names = {spelling for name in NAME.findall(text) for spelling in spellings(name)}
    return sorted(name for name in names if is_path(name) and not exists(re.sub(r"<\w+>", "*", name)))


def problems_of(path, text, exists, tests):
    problems = [f"{path} names {name}, which is not there" for name in missing_names(text, exists)]
    problems += [f"{path} names the test {name}, which is not there" for name in TEST_NAME.findall(text) if name not in tests]
    lines = text.count("\n")
    if path != "README.md" and lines > MOST_LINES:
        problems.append(f"{path} has {lines} lines; a folder's README has at most {MOST_LINES}")
    return problems


def exists_from(folder):
    def exists(name):
        places = [os.path.join(folder, name), os.path.join(folder, name) + ".*", name, name + ".*"]
        if folder:
            places.append(os.path.join(folder, "**", name))
        return any(glob.glob(os.path.join(ROOT, place), recursive=True) for place in places)
    return exists


def self_check():
    there = ("rank.h", "rank.cc", "arch/", "golden/*/")
    texts = {
        True: ["`gone.h`", "`rank.{h,cc,inc}` `rank.py`", "`arch/none/`", "line\n" * 41, "`Suite.Other`", "`None.*`", "`b_e2e`"],
        False: ["`rank.{h,cc}` and `arch/` hold `mpi.h`; `golden/<model>/` config: `config.json`, `MatMul`", "line\n" * 40,
                "`Suite.Test` `Suite.*` `a_test`"],
    }
    tests = declared_tests({"tests/a_test.cc": "x\nTEST_P(Suite, Test) {\n"})
    return [f"self-check: {text[:60]!r} should {'' if bad else 'not '}be a problem"
            for bad, examples in texts.items() for text in examples
            if bool(problems_of("folder/README.md", text, lambda name: name in there, tests)) != bad]


def main():
    problems = self_check()
    tests = declared_tests({path: text for path, text in sources(".cc", ".py").items() if path.startswith("tests/")})
    for folder in ("",) + FOLDERS:
        path = os.path.join(folder, "README.md")
        if os.path.exists(os.path.join(ROOT, path)):
            problems += problems_of(path, read(path), exists_from(folder), tests)
        else:
            problems.append(f"{path} is missing")
    return report(problems, f"{len(FOLDERS)} folders open with a README, and all that they name is there")


if __name__ == "__main__":
    sys.exit(main())
