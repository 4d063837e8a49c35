#!/usr/bin/env python3
"""Every C++ file is as clang-format 14 (Debian 12) and .clang-format lay it out."""
import os
import subprocess
import sys

from source_tree import ROOT, report, sources


def clang_format(*arguments, text=None):
    return subprocess.run(("clang-format", *arguments), cwd=ROOT, input=text, capture_output=True, text=True)


def problems_of(paths):
    done = clang_format("--dry-run", "-Werror", *paths)
    return sorted({line.split(":")[0] + " is not laid out by clang-format -i"
                   for line in done.stderr.split("\n") if "error:" in line}) or done.stderr.split("\n")[:-1]


def self_check():
    missed = []
    for text, wrong in (("int  a ;\n", True), ("int a;\n", False), ("int a" + "a" * 120 + " = 1 + 1;\n", True)):
        done = clang_format("--dry-run", "-Werror", "--assume-filename=" + os.path.join(ROOT, "parallel/a.cc"), text=text)
        if (done.returncode != 0) != wrong:
            missed.append(f"self-check: {text!r} should be {'wrong' if wrong else 'right'}")
    return missed


def main():
    version = clang_format("--version").stdout
    if "version 14." not in version:
        return report([f"clang-format 14 is needed, this is: {version.strip()}"], "")
    paths = sorted(sources(".cc", ".h"))
    return report(self_check() + problems_of(paths), f"{len(paths)} files are laid out by clang-format")


if __name__ == "__main__":
    sys.exit(main())
