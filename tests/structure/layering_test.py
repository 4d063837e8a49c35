#!/usr/bin/env python3
"""Who may include whom. Reads every #include and every line of conditional compilation of our C++."""
import re
import sys

from source_tree import report, sources

# Of ours: the first row that the file's path begins with holds. Headers of pure arithmetic are named one by one.
PROTO = "atoll/v1/"  # generated from proto/
ARITHMETIC = ("parallel/topology.h", "parallel/placement.h", "parallel/exchange_size.h")
LAYERS = (
    ("parallel/base/", ("parallel/base/",)),
    ("parallel/", ("parallel/",)),
    ("models/spec/", ("models/spec/", "parallel/base/") + ARITHMETIC),
    ("models/kernels/", ("models/kernels/", "models/spec/weight_format.h", "parallel/base/")),
    ("models/weights/", ("models/weights/", "models/spec/", "parallel/base/")),
    ("models/layers/", ("models/layers/", "models/kernels/", "models/spec/", "models/weights/", "parallel/", "models/")),
    ("models/", ("models/", "parallel/")),
    ("worker/", ("worker/", "models/", "parallel/", PROTO)),
    ("coordinator/", ("coordinator/", PROTO, "parallel/base/", "models/spec/", "models/weights/") + ARITHMETIC),
    ("tests/", ("tests/", "parallel/", "models/", "worker/", "coordinator/", PROTO)),
)
# Below what the row above allows.
NEVER = (
    ("models/layers/", "models/arch/"),
    ("worker/", "models/layers/"),
    ("worker/", "models/kernels/"),
)
# Of others: the only places where a header that begins like this may stand. tests/ may use all of them.
ONLY_IN = (
    (("mpi.h",), ("parallel/backends/mpi.cc",)),
    (("nccl.h", "cuda"), ("parallel/backends/", "models/kernels/")),
    (("hwy/", "immintrin.h", "x86intrin.h", "arm_neon.h"), ("models/kernels/",)),
    (("grpc/", "grpcpp/", "google/protobuf/"), ("worker/", "coordinator/")),
    (("boost/", "prometheus/"), ("coordinator/",)),
    (("CLI/",), ("coordinator/cli/", "worker/main.cc")),
    (("pcre2.h",), ("coordinator/", "models/spec/name_patterns.cc")),
    (("nlohmann/",), ("models/", "worker/", "coordinator/")),
)
CONDITIONS_IN = ("parallel/backends/", "models/kernels/", "tests/")

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif|else)\b.*", re.M)
OURS = ("parallel/", "models/", "worker/", "coordinator/", "tests/", "proto/", PROTO)


def wrong_include(path, header):
    """Why `path` may not include `header`, or None."""
    if header.startswith(OURS):
        allowed = next(allowed for prefix, allowed in LAYERS if path.startswith(prefix))
        if not header.startswith(allowed) or any(path.startswith(who) and header.startswith(whom) for who, whom in NEVER):
            return "this folder may not"
        arch = re.match(r"models/arch/(\w+)\.", path)
        other = re.match(r"models/arch/(\w+)\.", header)
        if arch and other and arch[1] != "table" and other[1] not in (arch[1], "table"):
            return "an architecture includes layers, never another architecture"
        return None
    for headers, places in ONLY_IN:
        if header.startswith(headers) and not path.startswith(places + ("tests/",)):
            return "only in " + ", ".join(places)
    return None


def problems_of(files):
    problems = []
    for path, text in sorted(files.items()):
        for bracket, header in INCLUDE.findall(text):
            reason = wrong_include(path, header)
            if bracket == '"' and "/" not in header:
                reason = "paths begin at the repository's root"
            if reason:
                problems.append(f"{path} includes {header}: {reason}")
        if not path.startswith(CONDITIONS_IN):
            problems += [f"{path} compiles conditionally: {line.strip()}" for line in CONDITION.findall(text)]
    return problems


def self_check():
    """Each of these must be found, and nothing in the last ones."""
    bad = {
        "parallel/base/a.h": '#include "parallel/communicator.h"',
        "parallel/b.cc": '#include "models/model.h"',
        "parallel/c.cc": "#include <mpi.h>",
        "parallel/backends/inproc.cc": "#include <mpi.h>",
        "parallel/d.h": '#include "atoll/v1/step.pb.h"',
        "models/e.cc": "#include <grpcpp/grpcpp.h>",
        "models/layers/f.cc": '  #  include "hwy/highway.h"',
        "models/layers/g.cc": '#include "models/arch/table.h"',
        "models/spec/h.cc": '#include "models/kernels/kernels.h"',
        "models/spec/i.cc": '#include "parallel/communicator.h"',
        "models/arch/one.cc": '#include "models/arch/other.h"',
        "models/weights/j.cc": '#include "models/layers/moe.h"',
        "worker/k.cc": '#include "coordinator/engine/engine.h"',
        "worker/l.cc": '#include "models/kernels/kernels.h"',
        "coordinator/m.cc": '#include "models/layers/moe.h"',
        "coordinator/n.cc": '#include "worker/rank.h"',
        "coordinator/o.cc": '#include "parallel/communicator.h"',
        "coordinator/p.cc": '#include "tests/parallel/on_ranks.h"',
        "coordinator/q.cc": '#include "engine.h"',
        "worker/r.cc": "int a;\n#ifdef NDEBUG\n#endif",
    }
    good = {
        "models/arch/one.h": '#include "models/arch/one.h"\n#include "models/layers/moe.h"',
        "models/arch/table.cc": '#include "models/arch/one.h"',
        "models/kernels/s.cc": "#if HWY_ONCE\n#include <hwy/highway.h>\n#endif",
        "parallel/backends/mpi.cc": '#include <mpi.h>\n#include "parallel/communicator.h"',
        "coordinator/t.cc": '#include "parallel/placement.h"\n#include <grpcpp/grpcpp.h>\n#include "atoll/v1/step.pb.h"',
        "tests/u.cc": '#include <mpi.h>\n#include "worker/rank.h"',
    }
    missed = [f"self-check: {path} was not found" for path, text in bad.items() if not problems_of({path: text})]
    return missed + [f"self-check, found for nothing: {problem}" for problem in problems_of(good)]


def main():
    files = sources(".cc", ".h", ".cpp", ".hpp", ".inc")
    return report(self_check() + problems_of(files), f"{len(files)} files include what they may")


if __name__ == "__main__":
    sys.exit(main())
