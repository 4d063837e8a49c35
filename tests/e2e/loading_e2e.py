#!/usr/bin/env python3
"""Loading a sharded checkpoint on 4 ranks, from a disk of which nothing is cached: each rank reads the pages that hold
what it keeps, at most 1.05 times as many bytes, and its memory is what `atoll inspect` predicted, within 5 %.

    tests/e2e/loading_e2e.py --gigabytes 8 [--directory DIR]     # the whole check; the test runs a small one

A rank of a small checkpoint is mostly program: there its own memory, measured on a checkpoint without weights to speak
of, is taken off first.
"""
import argparse
import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import safetensors_file
from big_checkpoint import PAGE, BigCheckpoint, evict
from cluster import ATOLL, MPI_ENV, descendants

RANKS, TP = 4, 2
ROWS = 8  # few: rows of logits on their way to the client are messages, which no plan counts
MOST_READ, MEMORY_TOLERANCE = 1.05, 0.05
LARGE = 4  # gigabytes; from here on the program itself is within the tolerance
FLAGS = ["--ranks", str(RANKS), "--tp", str(TP), "--kv-tokens", "1024", "--max-batch-tokens", "256"]


def cached_pages(paths):
    libc = ctypes.CDLL(None, use_errno=True)
    total = 0
    for path in paths:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
            count = -(-len(m) // PAGE)
            there = (ctypes.c_ubyte * count)()
            start = ctypes.c_char.from_buffer(m)
            if libc.mincore(ctypes.byref(start), ctypes.c_size_t(len(m)), there) != 0:
                raise OSError(ctypes.get_errno(), "mincore")
            del start
            total += int((np.frombuffer(there, np.uint8) & 1).sum())
    return total


class Watch(threading.Thread):
    """The peaks of what the ranks below a process read and hold, looked at many times a second."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.read, self.memory, self.ranks = pid, {}, {}, {}
        self.done = False

    def run(self):
        while not self.done:
            for pid, name in descendants(self.pid):
                if name.startswith("atoll-worker"):
                    self.look(pid)
            time.sleep(0.01)

    def look(self, pid):
        try:
            with open(f"/proc/{pid}/io") as f:
                read = next(int(line.split()[1]) for line in f if line.startswith("read_bytes:"))
            with open(f"/proc/{pid}/status") as f:
                kib = sum(int(line.split()[1]) for line in f if line.startswith(("RssAnon:", "RssShmem:")))
            if pid not in self.ranks:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    entries = dict(e.split(b"=", 1) for e in f.read().split(b"\0") if b"=" in e)
                if b"OMPI_COMM_WORLD_RANK" not in entries:
                    return
                self.ranks[pid] = int(entries[b"OMPI_COMM_WORLD_RANK"])
        except (OSError, StopIteration, ValueError):
            return  # it has just begun or ended
        rank = self.ranks[pid]
        self.read[rank] = max(self.read.get(rank, 0), read)
        self.memory[rank] = max(self.memory.get(rank, 0), kib * 1024)


def load_once(directory):
    """Loads and scores a few ids; what was seen, and the seconds it took."""
    with tempfile.TemporaryDirectory() as tmp:
        ids = os.path.join(tmp, "ids")
        safetensors_file.write(ids, {"input_ids": np.arange(ROWS, dtype=np.int32).reshape(1, -1) * 7 % 4096})
        began = time.monotonic()
        process = subprocess.Popen([ATOLL, "score", "--model", directory, "--input", ids, "--output", os.path.join(tmp, "out"),
                                    *FLAGS], env={**os.environ, **MPI_ENV}, stderr=subprocess.PIPE, text=True)
        watch = Watch(process.pid)
        watch.start()
        _, errors = process.communicate(timeout=1500)
        watch.done = True
        watch.join()
        if process.returncode != 0:
            raise RuntimeError(errors[-2000:])
        if sorted(watch.read) != list(range(RANKS)):
            raise RuntimeError(f"only ranks {sorted(watch.read)} were seen")
        return watch, time.monotonic() - began


def check(directory, gigabytes):
    failures = []
    own = 0
    if gigabytes < LARGE:
        os.mkdir(os.path.join(directory, "nothing"))
        tiny = BigCheckpoint(os.path.join(directory, "nothing"), 0)
        watch, _ = load_once(tiny.directory)
        own = min(watch.memory[rank] - predicted(tiny.directory)[rank]["total"] for rank in range(RANKS))
        print(f"the program itself holds {own / 2**20:.1f} MiB")
    os.mkdir(os.path.join(directory, "model"))
    checkpoint = BigCheckpoint(os.path.join(directory, "model"), gigabytes)
    paths = [checkpoint.path(shard) for shard in checkpoint.shards]
    print(f"{checkpoint.bytes / 1e9:.2f} GB in {len(paths)} shards, {checkpoint.config['num_hidden_layers']} layers of "
          f"{checkpoint.config['n_routed_experts']} experts", flush=True)
    plan = predicted(checkpoint.directory)
    evict(paths)
    cached = cached_pages(paths)
    if cached * PAGE > 0.01 * checkpoint.bytes:
        print(f"SKIPPED: {cached} pages stay cached, this file system cannot be asked to drop them; nothing was checked")
        return []
    watch, seconds = load_once(checkpoint.directory)
    if sum(watch.read.values()) == 0:
        print("SKIPPED: this machine does not count what processes read from its disks; nothing was checked")
        return []
    kept = [checkpoint.kept(rank, RANKS, TP) for rank in range(RANKS)]
    for rank in range(RANKS):
        pages, read = checkpoint.pages([kept[rank]]) * PAGE, watch.read[rank]
        expected, peak = plan[rank]["total"], watch.memory[rank] - own
        print(f"rank {rank}: read {read / 1e6:.1f} MB of {pages / 1e6:.1f} MB that hold what it keeps ({read / pages:.3f}); "
              f"peak {peak / 2**20:.1f} MiB, {expected / 2**20:.1f} MiB predicted ({peak / expected - 1:+.2%})")
        if read > MOST_READ * pages:
            failures.append(f"rank {rank} read {read} bytes, {read / pages:.3f} times the pages that hold what it keeps")
        if abs(peak - expected) > MEMORY_TOLERANCE * expected:
            failures.append(f"rank {rank} holds {peak} bytes, {expected} were predicted")
    # Two ranks that keep the same page read it once; so the sum is what all of them keep, and no less.
    together, total = checkpoint.pages(kept) * PAGE, sum(watch.read.values())
    print(f"together: read {total / 1e6:.1f} MB of {together / 1e6:.1f} MB ({total / together:.3f}), {seconds:.1f} s in all")
    if not 0.98 * together <= total <= MOST_READ * together:
        failures.append(f"the ranks read {total} bytes of {together} that they keep: the count means nothing")
    return failures


def predicted(directory):
    shown = subprocess.run([ATOLL, "inspect", directory, "--json", *FLAGS], capture_output=True, text=True, timeout=60)
    if shown.returncode != 0:
        raise RuntimeError(shown.stderr)
    return json.loads(shown.stdout)["memory"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=0.4)
    parser.add_argument("--directory", default=None, help="where there is room for it; not a file system in memory")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="atoll-loading-", dir=args.directory) as directory:
        failures = check(directory, args.gigabytes)
    print("\n".join(failures) or "done")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
