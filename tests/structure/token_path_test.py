#!/usr/bin/env python3
"""The README's list of the files that a token passes is true, leaves nothing out, and keeps to its budget."""
import os
import re
import sys

from source_tree import ROOT, read, report
from token_path import BEGIN, BESIDE, BUDGET, END, block, count, path_steps

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def missing_from(listed, text_of, exists):
    """Files that `listed` needs: what they include, and the other half of a header. text_of and exists: of a path."""
    needed = set()
    for path in listed:
        stem, ending = os.path.splitext(path)
        other = stem + (".cc" if ending == ".h" else ".h")
        if ending in (".h", ".cc") and exists(other):
            needed.add(other)
        needed |= set(INCLUDE.findall(text_of(path)))
    return sorted(path for path in needed - set(listed) if exists(path) and not path.startswith(tuple(BESIDE)))


def problems_of(readme, steps, lines_of, text_of, exists, expected):
    handed = [path for _, paths, _ in steps for path in paths]
    listed = handed + [path for _, _, paths in steps for path in paths]
    problems = [f"{path} is on the list and not in the tree" for path in listed if not exists(path)]
    problems += [f"{path} is on the list twice" for path in sorted({path for path in listed if listed.count(path) > 1})]
    if problems:
        return problems
    problems += [f"{path} is on the way of a token and not on the list" for path in missing_from(listed, text_of, exists)]
    total = sum(map(lines_of, handed))
    if total > BUDGET:
        problems.append(f"a token is handed on in {total} lines; the budget is {BUDGET}")
    if BEGIN + expected() + END not in readme:
        problems.append("the list in README.md is not the tree's: tests/structure/token_path.py --update")
    return problems


def self_check():
    texts = {"a.h": "", "a.cc": '#include "a.h"\n#include "b.h"\n#include "models/kernels/k.h"\n', "b.h": "int b;\n"}
    block_text = "| a |\n"

    def check(steps, readme=BEGIN + block_text + END, lines=10, present=texts):
        return problems_of(readme, steps, lambda path: lines, lambda path: texts[path], lambda path: path in present,
                           lambda: block_text)

    good = (("1", ["a.h", "a.cc"], ["b.h"]),)
    bad = {
        "no .cc": check((("1", ["a.h"], ["b.h"]),)),
        "an include left out": check((("1", ["a.h", "a.cc"], []),)),
        "too long": check(good, lines=BUDGET // 2 + 1),
        "another README": check(good, readme=BEGIN + "| b |\n" + END),
        "a file that is gone": check(good, present={"a.h", "a.cc"}),
        "a file twice": check(good + (("2", ["a.cc"], []),)),
    }
    missed = [f"self-check: {what} was not found" for what, problems in bad.items() if not problems]
    return missed + [f"self-check, found for nothing: {problem}" for problem in check(good)]


def main():
    steps = path_steps()
    problems = self_check() + problems_of(read("README.md"), steps, count, read,
                                          lambda path: os.path.exists(os.path.join(ROOT, path)), block)
    handed = sum(count(path) for _, paths, _ in steps for path in paths)
    return report(problems, f"a token is handed on in {handed} lines, at most {BUDGET}")


if __name__ == "__main__":
    sys.exit(main())
