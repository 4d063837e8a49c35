#!/usr/bin/env python3
"""The files that a token passes, from a gRPC request to the client's stream, as the README's life of a token lists them.

  tests/structure/token_path.py            # prints the block
  tests/structure/token_path.py --update   # writes it into README.md, between its marks

Files are counted whole, headers included. Two kinds:
  handed on   the token (its text, id, row, logits) leaves the file for another one of this kind, another thread, process or
              rank. Who reads these knows where it goes; the budget of 3,000 lines is theirs.
  looked up   answers its caller and passes nothing on, or only says what a message or a value is: a reader may stop at the
              header.
Nothing on the way may be left out: token_path_test.py follows the #include lines of every file here, to files that are here
or in BESIDE.
"""
import glob
import os
import sys

from source_tree import ROOT, read

BUDGET = 3000
BEGIN, END = "<!-- token-path -->\n", "<!-- /token-path -->"


def both(*stems):
    return [stem + ending for stem in stems for ending in (".h", ".cc")]


# (step of the README's list, handed on, looked up)
STEPS = (
    ("1", [*both("coordinator/api/grpc_inference"), "coordinator/api/service.h", "coordinator/api/to_request.cc"],
     ["proto/atoll/v1/inference.proto", "coordinator/api/service.cc", "coordinator/api/render.cc", *both("coordinator/api/errors")]),
    ("2", [], ["coordinator/tokenizer/*"]),
    ("3, 10", both("coordinator/engine/engine", "coordinator/engine/core", "coordinator/engine/stream"),
     ["coordinator/engine/request.h", *both("coordinator/engine/generation"), "coordinator/scheduler/*"]),
    ("4", ["coordinator/scheduler/executor.h",
           *both("coordinator/cluster/plan_exchange", "coordinator/cluster/control_service")],
     ["proto/atoll/v1/step.proto", "proto/atoll/v1/control.proto"]),
    ("5", both("worker/plan_stream", "worker/engine"),
     both("worker/sequences", "worker/gather_logits", "worker/top_logprobs", "worker/costs")),
    ("6", ["models/model.h", "models/arch/deepseek_v3.cc", *both("models/layers/decoder", "models/layers/embedding")],
     both("models/arena", "models/layers/norm", "models/layers/linear")
     + ["models/layers/step.h", "models/step_costs.h", "models/runtime.h", "models/kv_cache.h"]),
    ("7", both("models/layers/mla", "models/layers/tensor_parallel"),
     both("models/layers/attention", "models/layers/segment", "models/layers/rope", "parallel/reduce") + ["models/layers/thread_scratch.h"]),
    ("8", both("models/layers/moe", "models/layers/mlp", "parallel/dispatch"),
     both("models/layers/router", "models/layers/experts", "models/layers/gated", "parallel/dispatch_lists", "parallel/placement")
     + ["parallel/weighted_results.h", "parallel/list_memory.h", "parallel/exchange_size.h"]),
    ("9", both("models/layers/head"), both("worker/sampler", "models/logits")),
    ("7-9", ["parallel/communicator.h"],
     ["parallel/context.h", "parallel/topology.h", "parallel/communicator.cc", "parallel/operation.h", "parallel/backends.h",
      "parallel/backends/mpi.cc", "parallel/base/status.h", "parallel/base/deadline.h", "parallel/base/dtype.h",
      "parallel/base/buffer.h", "parallel/base/partition.h", "parallel/base/mix.h"]),
)

# Included on the way, and no part of it: by the beginning of the path.
BESIDE = {
    "atoll/v1/": "generated",
    "models/kernels/": "kernels",
    "parallel/base/thread_pool": "kernels",
    "parallel/base/log": "log",
    "models/spec/": "config.json, before any token",
    "models/model.cc": "loading",
    "models/weights/": "loading",
    "models/weight_arena": "loading",
    "models/layers/builder": "loading",
    "models/arch/table": "loading",
    "coordinator/cluster/cluster.": "which ranks there are: launching, membership, recovery",
    "coordinator/chat_template/": "conversations are rendered to text before",
    "models/layers/gqa": "attention of other families",
}


def expand(pattern):
    """A folder's C++ for "folder/*"."""
    if not pattern.endswith("*"):
        return [pattern]
    return sorted(os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, pattern))
                  if path.endswith((".h", ".cc")))


def path_steps():
    """STEPS with the folders' files, each file once: where it is handed on, else where it is first looked up."""
    taken = {path for _, handed, _ in STEPS for path in handed}
    steps = []
    for name, handed, looked_up in STEPS:
        files = [path for pattern in looked_up for path in expand(pattern) if path not in taken]
        taken |= set(files)
        steps.append((name, handed, files))
    return steps


def count(path):
    return read(path).count("\n")


def cell(paths):
    """Files with their lines, by folder."""
    folders = {}
    for path in paths:
        folders.setdefault(os.path.dirname(path), []).append(f"{os.path.basename(path)} {count(path)}")
    return "; ".join(f"`{folder}/` {', '.join(files)}" for folder, files in folders.items()) or "-"


def block():
    lines = ["| step | handed on in (lines) | sum | looked up (lines) | sum |", "|---|---|---|---|---|"]
    totals = [0, 0]
    for name, handed, looked_up in path_steps():
        sums = [sum(map(count, paths)) for paths in (handed, looked_up)]
        totals = [total + part for total, part in zip(totals, sums)]
        lines.append(f"| {name} | {cell(handed)} | {sums[0]} | {cell(looked_up)} | {sums[1]} |")
    lines.append(f"| all | | {totals[0]:,} | | {totals[1]:,} |")
    return "\n".join(lines) + "\n"


def main():
    if "--update" not in sys.argv:
        print(block(), end="")
        return 0
    readme = read("README.md")
    begin, end = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    made = readme[:begin] + block() + readme[end:]
    with open(os.path.join(ROOT, "README.md"), "w", encoding="utf-8") as file:
        file.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
