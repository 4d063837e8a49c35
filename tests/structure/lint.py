"""Runs clang-tidy over our files, as many at once as there are cores; tests/lint is the way to call it.

What makes a file's verdict is hashed: the file, the headers of ours that it includes, its compiler command, .clang-tidy and
clang-tidy itself. A verdict "clean" leaves a stamp of that name in <build>/lint.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
import time

from source_tree import ROOT, read

# Written with GCC's target pragmas, which clang does not know.
GCC_ONLY = ("models/kernels/limits_x86.cc", "models/kernels/packed_avx2.cc", "models/kernels/packed_avx512.cc",
            "models/kernels/packed_panel_avx2.cc", "models/kernels/packed_unpack_avx2.cc",
            "models/kernels/packed_transposed_avx512.cc")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)


def our_commands(build):
    """{path from the root: compiler command} of what is ours, not generated."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    found = {os.path.relpath(os.path.join(e["directory"], e["file"]), ROOT): e["command"] for e in entries}
    return {path: command for path, command in found.items() if not path.startswith(("build", "..")) and path not in GCC_ONLY}


def closure(path, seen):
    """The file and all of ours that it includes, however far; generated messages count as their .proto."""
    if path in seen or not os.path.exists(os.path.join(ROOT, path)):
        return
    seen.add(path)
    for header in INCLUDE.findall(read(path)):
        message = re.match(r"(atoll/v1/\w+)\.(?:grpc\.)?pb\.h", header)
        closure(os.path.join("proto", message[1] + ".proto") if message else header, seen)


def stamp_of(path, command, version):
    files = {".clang-tidy"} | ({"tests/.clang-tidy"} if path.startswith("tests/") else set())
    closure(path, files)
    parts = [version, command] + [name + "\0" + read(name) for name in sorted(files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def lint(build, path):
    """clang-tidy's findings, or "" for none."""
    done = subprocess.run(("clang-tidy", "-p", build, "--quiet", path), cwd=ROOT, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + (done.stderr if not done.stdout else "")


def main():
    build, wanted = os.path.abspath(sys.argv[1]), {os.path.relpath(os.path.abspath(path), ROOT) for path in sys.argv[2:]}
    stamps = os.path.join(build, "lint")
    os.makedirs(stamps, exist_ok=True)
    version = subprocess.run(("clang-tidy", "--version"), capture_output=True, text=True, check=True).stdout
    commands = our_commands(build)
    if missing := wanted - commands.keys():
        print(f"lint: {', '.join(sorted(missing))} is not compiled in {sys.argv[1]}", file=sys.stderr)
        return 2
    start = time.monotonic()
    keys = {path: stamp_of(path, command, version) for path, command in commands.items() if not wanted or path in wanted}
    todo = sorted(path for path, key in keys.items() if not os.path.exists(os.path.join(stamps, key)))
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, findings in zip(todo, pool.map(lambda path: lint(build, path), todo)):
            if findings:
                bad += 1
                print(findings, flush=True)
            else:
                open(os.path.join(stamps, keys[path]), "w", encoding="utf-8").close()
    print(f"lint: {len(keys)} files, {len(todo)} of them looked at in {time.monotonic() - start:.0f} s: "
          f"{bad} with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
