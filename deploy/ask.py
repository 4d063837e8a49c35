#!/usr/bin/env python3
"""Asks a running Atoll three things over the OpenAI API, streamed, and prints answers, tokens/s and the cluster's shape."""
import json
import sys
import time
import urllib.request

QUESTIONS = [
    "What is 87 + 64?",
    "Write JSON: name Ivan, age 4, color orange.",
    "Tell a story about Lena, a dog and a cup.",
]


def ask(base, question):
    body = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 160,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = urllib.request.Request(
        base + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    print(f"\n> {question}\n", end="", flush=True)
    start = time.monotonic()
    first = usage = None
    with urllib.request.urlopen(request, timeout=120) as response:
        for line in response:
            line = line.decode().strip()
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                sys.exit("the server said: " + chunk["error"]["message"])
            for choice in chunk["choices"]:
                text = choice["delta"].get("content") or ""
                if text and first is None:
                    first = time.monotonic()
                print(text, end="", flush=True)
            usage = chunk.get("usage") or usage
    end = time.monotonic()
    tokens = usage["completion_tokens"]
    print(f"\n  [{tokens} tokens, first after {1e3 * ((first or end) - start):.0f} ms, "
          f"{(tokens - 1) / max(end - (first or start), 1e-9):.0f} tokens/s]")


def main():
    base = sys.argv[1].rstrip("/")
    for question in QUESTIONS:
        ask(base, question)
    with urllib.request.urlopen(base + "/v1/models", timeout=10) as response:
        model = json.load(response)["data"][0]
    shape = model.get("cluster", {})
    print(f"\n{model['id']}: " + ", ".join(f"{key} {value}" for key, value in shape.items()))


if __name__ == "__main__":
    main()
