#!/usr/bin/env python3
"""Rounds of 64 concurrent streams with random lengths, seeds and cancellations over 4 ranks.

Every finished text equals the one the same request gives alone; free KV blocks after each round equal those before;
anonymous memory after the last round is at most 1.02 x that after the first (of a soak: the tenth). KV blocks are few,
so that sequences are preempted on the way.

  load_e2e.py                # 3 rounds
  load_e2e.py --rounds 157   # a soak of 10,000 requests; memory of each process by round
"""
import argparse
import concurrent.futures
import random
import sys
import time

from cluster import Server, anonymous_kib, eval_cases

STREAMS = 64


def requests(count, seed):
    rng = random.Random(seed)
    cases = eval_cases(None, 0)
    for index in range(count):
        yield {
            "messages": rng.choice(cases)["messages"],
            "max_tokens": rng.randint(1, 120),
            "temperature": rng.choice([0, 0.7, 1.2]),
            "top_p": rng.choice([1, 0.9]),
            "top_k": rng.choice([0, 40]),
            "seed": seed * 1000 + index,
            "ignore_eos": rng.random() < 0.3,
        }


def settled(server, name, value, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.metrics().get(name) == value:
            return True
        time.sleep(0.1)
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    failures = []
    with Server(ranks=4, tp=2, args=["--kv-tokens", "512"]) as server:
        work = list(requests(STREAMS, seed=1))
        alone = [server.chat(**request) for request in work]
        failures += [f"alone {i}: {a.error}" for i, a in enumerate(alone) if a.error]
        free_before = server.metrics()["atoll_kv_blocks_free"]
        memory = []
        for round_number in range(1, rounds + 1):
            rng = random.Random(round_number)
            cancels = [rng.randint(1, 5) if rng.random() < 0.25 else None for _ in work]
            order = list(range(STREAMS))
            rng.shuffle(order)

            def run(index):
                time.sleep(rng.random() * 0.2)
                return index, server.chat(cancel_after=cancels[index], **work[index])

            with concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
                for index, answer in pool.map(run, order):
                    expected = alone[index]
                    if answer.error:
                        failures.append(f"round {round_number}, request {index}: {answer.error}")
                    elif cancels[index] is not None:
                        if not expected.text.startswith(answer.text):
                            failures.append(f"round {round_number}, cancelled {index}: {answer.text!r}")
                    elif (answer.text, answer.finish, answer.usage) != (expected.text, expected.finish, expected.usage):
                        failures.append(f"round {round_number}, request {index}: {answer.text!r} is not "
                                        f"{expected.text!r}")
            if not settled(server, "atoll_kv_blocks_free", free_before):
                failures.append(f"round {round_number}: free KV blocks {server.metrics()['atoll_kv_blocks_free']} "
                                f"are not {free_before}")
            each = [anonymous_kib([pid]) for pid in [server.process.pid] + [pid for pid, _ in server.descendants()]]
            memory.append(sum(each))
            print(f"round {round_number}: anonymous memory {memory[-1] / 1024:.1f} MiB"
                  f" ({', '.join(f'{kib / 1024:.1f}' for kib in each)})", flush=True)
        first = memory[9 if rounds > 30 else 0]  # a soak begins when caches and arenas have what they need
        if memory[-1] > 1.02 * first:
            failures.append(f"memory grew from {first} to {memory[-1]} KiB")
        metrics = server.metrics()
        print(f"preemptions {metrics['atoll_preemptions_total']:.0f}")
        if metrics["atoll_preemptions_total"] == 0:
            failures.append("no sequence was preempted: the load is too light to show anything")
        # Neighbours of the machine make it more, never less: the least of some tries, as soon as one is low enough.
        for _ in range(4):
            ticks = cpu_ticks(server.ranks())
            time.sleep(10)
            idle = (cpu_ticks(server.ranks()) - ticks) / 100 / 10 / 4
            print(f"idle: {100 * idle:.2f} % of a core per rank", flush=True)
            if idle <= 0.01:
                break
        else:
            failures.append(f"an idle rank costs more than 1 % of a core, last {100 * idle:.2f} %")
    print("\n".join(failures[:20]) or "every text as alone, every block free, memory flat")
    return 1 if failures else 0


def cpu_ticks(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
    return total


if __name__ == "__main__":
    sys.exit(main())
