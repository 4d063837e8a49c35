#!/usr/bin/env python3
"""Ranks as threads of one worker process, from load to orderly exit: what the sanitizers watch end to end."""
import concurrent.futures
import sys

from cluster import Server, eval_cases


def main():
    cases = eval_cases(24)
    failures = []
    server = Server(ranks=4, tp=2, transport="inproc", args=["--silence-timeout", "30"])
    try:
        server.wait_ready(240)
        def run(case):
            return case, server.chat(case["messages"], max_tokens=case["max_tokens"], temperature=0)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for case, answer in pool.map(run, cases):
                if answer.error or answer.text != case["reference"]:
                    failures.append(f"{case['messages'][-1]['content']!r}: {answer.text!r} {answer.error or ''}")
        server.chat(cases[0]["messages"], cancel_after=2, max_tokens=400, ignore_eos=True)
        status, body = server.post("/v1/chat/completions", {"messages": 3})
        if status != 400:
            failures.append(f"messages: 3 gave {status} {body}")
    finally:
        code = server.stop(120)
    if code != 0:
        failures.append(f"serve ended with {code}")
    if "Sanitizer" in server.log_text() or "runtime error" in server.log_text():
        failures.append("a sanitizer spoke")
    if failures:
        print(server.log_text()[-6000:])
    server.discard_log()
    print("\n".join(failures) or f"{len(cases)} answers right, orderly exit")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
