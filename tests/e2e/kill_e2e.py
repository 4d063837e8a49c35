#!/usr/bin/env python3
"""A dead rank costs time, never tokens.

For each seed: at least 8 live streams on 4 ranks, then at a random moment (prompts, decoding; for a second fault recovery itself:
launching, registering, loading, replaying) kill -9 or SIGSTOP of a random rank, or kill -9 of mpirun. Every stream ends
with the very text of an undisturbed run.
    kill_e2e.py --seeds 20 [--first 0]      20 in CI; 200 by hand
"""
import argparse
import os
import random
import signal
import sys
import threading
import time

from cluster import Server, eval_cases

STREAMS, LIVE, TOKENS = 10, 8, 600


def requests():
    rng = random.Random(7)
    stories = [case for case in eval_cases(None, 0) if case["kind"] in ("story", "count", "recall")]
    return [{
        "messages": rng.choice(stories)["messages"], "max_tokens": TOKENS, "ignore_eos": True,
        "temperature": 0.8 if index % 2 else 0, "seed": index,
    } for index in range(STREAMS)]


def generated(server):
    return server.metrics()["vllm:generation_tokens_total"]


def hurt(server, rng):
    """One fault; says what it was, or None where nothing was there to hurt."""
    kind = rng.choice(["kill", "kill", "stop", "mpirun"])
    victims = server.mpirun() if kind == "mpirun" else server.ranks()
    if not victims:
        return None
    try:
        os.kill(rng.choice(victims), signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
    except ProcessLookupError:
        return None
    return kind


def start_streams(server, work, answers):
    def stream(index):
        answers[index] = server.chat(timeout=240, **work[index])

    threads = [threading.Thread(target=stream, args=(i,)) for i in range(STREAMS)]
    for thread in threads:
        thread.start()
    return threads


def run_seed(server, seed, work, expected):
    rng = random.Random(seed)
    answers = [None] * STREAMS
    # All streams are equally long and run side by side, so nearly all of them live until nearly the end. Where this
    # program was not given the processor in time to see it, it tries an earlier moment.
    share, live = 0.7 * rng.random(), 0
    for attempt in range(6):
        threads = start_streams(server, work, answers)
        moment = generated(server) + share / 2**attempt * STREAMS * TOKENS
        live = STREAMS
        while generated(server) < moment and live > LIVE:
            time.sleep(0.005)
            live = sum(thread.is_alive() for thread in threads)
        if live >= LIVE:
            break
        for thread in threads:
            thread.join(300)
    done = [hurt(server, rng)]
    if rng.random() < 0.5:  # again, while it recovers
        time.sleep(rng.random() * 1.2)
        done.append(hurt(server, rng))
    start = time.monotonic()
    for thread in threads:
        thread.join(300)
    seconds = time.monotonic() - start
    lost = [f"stream {i}: {a.error if a else 'no end'}" for i, a in enumerate(answers) if not a or a.error or not a.done]
    changed = [f"stream {i}: {a.text!r} is not {e.text!r}" for i, (a, e) in enumerate(zip(answers, expected))
               if a and not a.error and a.text != e.text]
    pause = max((b - a for answer in answers if answer for a, b in zip(answer.times, answer.times[1:])), default=0)
    if live < LIVE:
        lost.append(f"only {live} streams were live")
    print(f"seed {seed}: {', '.join(str(d) for d in done)}: {seconds:.1f} s to the end, longest pause {pause:.2f} s, "
          f"lost {len(lost)}, changed {len(changed)}")
    server.wait_ready()
    return lost + changed, pause


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    work, failures, pauses = requests(), [], []
    with Server(ranks=4, tp=2, args=["--silence-timeout", "3"]) as server:
        expected = [server.chat(**request) for request in work]
        failures += [f"undisturbed: {answer.error}" for answer in expected if answer.error]
        for seed in range(options.first, options.first + options.seeds):
            if failures:
                break
            bad, pause = run_seed(server, seed, work, expected)
            failures += bad
            pauses.append(pause)
        metrics = server.metrics()
        print(f"restarts {metrics.get('atoll_restarts_total', 0):.0f}; "
              f"pause median {sorted(pauses)[len(pauses) // 2] if pauses else 0:.2f} s, "
              f"longest {max(pauses, default=0):.2f} s")
        if failures:
            print(server.log_text()[-4000:])
    print("\n".join(failures[:10]) or f"{options.seeds} seeds: no stream lost, every text equal")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
