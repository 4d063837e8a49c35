#!/usr/bin/env python3
"""Loading a bf16 checkpoint into INT4: seconds from an uncached disk and from the page cache, beside their limits.

    ATOLL_BIN=build/release/bin python3 tests/benchmarks/quantising_load.py --gigabytes 8 [--weights int4] [--threads 2]

The limits: reading the files once in large blocks from where they are (disk or page cache), and 50 % of the memory
bandwidth for the bytes read and written.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import safetensors_file  # noqa: E402
from big_checkpoint import BigCheckpoint, evict  # noqa: E402
from cluster import ATOLL  # noqa: E402


def read_seconds(paths):
    start = time.monotonic()
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            while f.read(16 << 20):
                pass
    return time.monotonic() - start


def load_seconds(directory, args):
    """From the start of the program to the line that says that all weights are loaded."""
    with tempfile.TemporaryDirectory() as tmp:
        ids = os.path.join(tmp, "ids.safetensors")
        safetensors_file.write(ids, {"input_ids": np.arange(4, dtype=np.int32).reshape(1, -1)})
        process = subprocess.Popen(
            [ATOLL, "score", "--model", directory, "--input", ids, "--output", os.path.join(tmp, "out"), "--transport",
             "inproc", "--threads", str(args.threads), "--weights", args.weights, "--head-weights", args.weights,
             "--kv-tokens", "64", "--max-batch-tokens", "64"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        start, done, said = time.monotonic(), None, []
        for line in process.stderr:
            said.append(line)
            if "loading weights: 100 %" in line:
                done = time.monotonic()
        if process.wait() != 0 or done is None:
            raise SystemExit("".join(said))
    return done - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--weights", default="int4")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    machine = subprocess.run([ATOLL, "bench", "machine", "--json", "--ranks", "1", "--threads", str(args.threads)],
                             capture_output=True, text=True, check=True)
    bandwidth = json.loads(machine.stdout)["read_bytes_per_s"]["all"]
    with tempfile.TemporaryDirectory() as directory:
        BigCheckpoint(directory, args.gigabytes)
        shards = [os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".safetensors")]
        stored = sum(os.path.getsize(path) for path in shards)
        print(f"{stored / 1e9:.2f} GB of bf16 into {args.weights}, {args.threads} threads; memory reads "
              f"{bandwidth / 1e9:.1f} GB/s: {2 * stored / bandwidth:.1f} s at 50 %")
        for cached in (False, True):
            if not cached:
                evict(shards)
            limit = read_seconds(shards)
            if not cached:
                evict(shards)
            seconds = load_seconds(directory, args)
            print(f"{'page cache' if cached else 'disk':<12} {seconds:6.1f} s, {stored / seconds / 1e9:.2f} GB/s; reading "
                  f"alone {limit:6.1f} s, {stored / limit / 1e9:.2f} GB/s", flush=True)


if __name__ == "__main__":
    main()
