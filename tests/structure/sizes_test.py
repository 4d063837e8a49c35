#!/usr/bin/env python3
"""One idea a file: half of the files below 150 lines, nine in ten below 400, none above 600.

A file is C++ (.cc, .h), a message definition (.proto) or Python, tests included, counted whole: comments and blank lines too.
"""
import sys

from source_tree import report, sources

MEDIAN, NINE_IN_TEN, LONGEST = 150, 400, 600


def problems_of(lines):
    """lines: {path: number of lines}."""
    lengths = sorted(lines.values())
    problems = [f"{path} has {length} lines; none may have more than {LONGEST}"
                for path, length in sorted(lines.items()) if length > LONGEST]
    if lengths[len(lengths) // 2] >= MEDIAN:
        problems.append(f"the median file has {lengths[len(lengths) // 2]} lines; it must have less than {MEDIAN}")
    long = sorted(path for path, length in lines.items() if length >= NINE_IN_TEN)
    if 10 * len(long) > len(lines):
        problems.append(f"{len(long)} of {len(lines)} files have {NINE_IN_TEN} lines or more: {', '.join(long)}")
    return problems


def self_check():
    good = {f"f{i}": 149 for i in range(6)} | {f"g{i}": 399 for i in range(3)} | {"h": 600}
    bad = {"one of 601": good | {"h": 601}, "median 150": good | {"f0": 150}, "two in ten": good | {"g0": 400}}
    missed = [f"self-check: {what} was not found" for what, lines in bad.items() if not problems_of(lines)]
    return missed + [f"self-check, found for nothing: {problem}" for problem in problems_of(good)]


def main():
    lines = {path: text.count("\n") for path, text in sources(".cc", ".h", ".proto", ".py").items()}
    lengths = sorted(lines.values())
    fine = (f"{len(lengths)} files, {sum(lengths)} lines: median {lengths[len(lengths) // 2]}, "
            f"nine in ten at most {lengths[len(lengths) * 9 // 10]}, longest {lengths[-1]}")
    return report(self_check() + problems_of(lines), fine)


if __name__ == "__main__":
    sys.exit(main())
