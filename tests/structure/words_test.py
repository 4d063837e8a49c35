#!/usr/bin/env python3
"""Nothing in the tree speaks of the machine it was written on, or of where packages are fetched from.

A user's paths are relative, or flags; what is installed comes from deploy/packages.txt.
"""
import re
import sys

from source_tree import report, texts

# In two parts each, so that this file may be read too.
MACHINE = "|".join(("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", r"\.py" + "env"))
REGISTRIES = "|".join((r"py" + r"pi\.", r"python" + r"hosted\.", r"hugging" + r"face\.co", r"npm" + r"js\.", r"crates" + r"\.io",
                       r"proxy\.go" + r"lang", r"conda" + r"\.", r"debian" + r"\.org"))
MAKING = r"\biss" + r"ue #?\d"
DOCUMENTS = "/t" + "mp/"


def words_for(path):
    words = MACHINE + "|" + REGISTRIES + "|" + MAKING
    return re.compile(words + "|" + DOCUMENTS if path.endswith(".md") else words, re.I)


def problems_of(path, text):
    return [f"{path}:{number} speaks of {found[0]!r}: {line.strip()[:100]}"
            for number, line in enumerate(text.split("\n"), 1) if (found := words_for(path).search(line))]


def self_check():
    bad = (("a.cc", "open(\"/wo" + "rk/x\")"), ("b.md", "see /t" + "mp/x"), ("run", "pip install -i https://py" + "pi.org"),
           ("c.py", "# as in iss" + "ue 12"), ("d.md", "Hugging" + "Face.co/model"))
    good = (("a.cc", "\"/tmp/x\""), ("b.md", "an issue of names; network/roots; Hugging Face's templates"))
    missed = [f"self-check: {text!r} was not found" for path, text in bad if not problems_of(path, text)]
    return missed + [f"self-check, found for nothing: {problem}" for path, text in good for problem in problems_of(path, text)]


def main():
    files = texts()
    problems = [problem for path, text in sorted(files.items()) for problem in problems_of(path, text)]
    return report(self_check() + problems, f"{len(files)} files speak of the project only")


if __name__ == "__main__":
    sys.exit(main())
