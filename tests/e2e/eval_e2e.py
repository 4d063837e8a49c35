#!/usr/bin/env python3
"""The trained checkpoint's answers through the chat API at temperature 0: every reference with a safe margin, word for word."""
import concurrent.futures
import sys

from cluster import Server, eval_cases


def main():
    cases = eval_cases()
    with Server(ranks=4, tp=2) as server:
        def run(case):
            return case, server.chat(case["messages"], max_tokens=case["max_tokens"], temperature=0)

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            results = list(pool.map(run, cases))
    wrong = 0
    for case, answer in results:
        if answer.error or answer.text != case["reference"] or answer.finish != case["finish"]:
            wrong += 1
            if wrong <= 10:
                print(f"{case['kind']}: {case['messages'][-1]['content']!r}\n  expected {case['reference']!r} "
                      f"({case['finish']})\n  got      {answer.text!r} ({answer.finish}) {answer.error or ''}")
    print(f"{len(cases) - wrong} of {len(cases)} reference answers reproduced")
    return 1 if wrong or len(cases) < 400 else 0


if __name__ == "__main__":
    sys.exit(main())
