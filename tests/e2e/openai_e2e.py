#!/usr/bin/env python3
"""The OpenAI API as its clients read it: field by field, whole and streamed, and what a full or loading server says."""
import concurrent.futures
import json
import os
import subprocess
import sys

from cluster import SOURCE, Server, chat_question
from http_e2e import error_problem
from raw_http import ask, request

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ANSWER = "87 + 64 = 151."
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)


class Client:
    def __init__(self, port):
        self.port = port

    def whole(self, path, body, headers=()):
        response = ask(self.port, request("POST", path, body, headers))
        if response.status != 200:
            raise AssertionError(f"{body}: {response.status} {response.body}")
        return response, response.json()

    def streamed(self, path, body):
        response = ask(self.port, request("POST", path, {**body, "stream": True}))
        if response.status != 200:
            raise AssertionError(f"{body}: {response.status} {response.body}")
        events = response.events()
        check(events[-1] == "[DONE]" and events.count("[DONE]") == 1, f"{body}: the stream ends {events[-2:]}")
        return response, [json.loads(event) for event in events[:-1]]

    def text(self, **fields):
        return self.whole(CHAT, {**chat_question(), **fields})[1]["choices"][0]["message"]["content"]


def whole_answers(client):
    response, body = client.whole(CHAT, chat_question(), ["x-request-id: mine-1"])
    check(response.headers["content-type"] == "application/json", response.headers)
    check(response.headers["x-request-id"] == "mine-1", "x-request-id is not echoed")
    check(body["object"] == "chat.completion" and body["id"].startswith("chatcmpl-"), body)
    check(isinstance(body["created"], int) and body["model"] == "tiny-deepseek-v3" and body["system_fingerprint"], body)
    choice, = body["choices"]
    check(choice == {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "logprobs": None,
                     "finish_reason": "stop"}, choice)
    check(body["usage"] == {"prompt_tokens": 13, "completion_tokens": 13, "total_tokens": 26}, body["usage"])
    made = [ask(client.port, request("GET", "/health")).headers["x-request-id"] for _ in range(2)]
    check(made[0] and made[0] != made[1], f"made-up request ids {made}")
    response, _ = client.whole(CHAT, {**chat_question(), "user": "me", "we\r\nird": 1})
    check(response.headers.get("x-atoll-ignored") == "user,we??ird", f"ignored fields: {response.headers}")

    _, body = client.whole(COMPLETIONS, {"prompt": "<｜begin▁of▁sentence｜><｜User｜>What is 87 + 64?<｜Assistant｜>", "temperature": 0})
    check(body["object"] == "text_completion" and body["id"].startswith("cmpl-"), body)
    check(body["choices"][0]["text"].startswith(ANSWER[:8]) and body["usage"]["completion_tokens"] <= 16, body)
    tokens = client.whole(COMPLETIONS, {"prompt": "7 8 9", "max_tokens": 4, "temperature": 0, "ignore_eos": True})[1]
    check(tokens["choices"][0]["finish_reason"] == "length" and tokens["usage"]["completion_tokens"] == 4, tokens)
    ids = [5, 6, 7, 8]
    forms = [client.whole(COMPLETIONS, {"prompt": form, "max_tokens": 8, "temperature": 0})[1] for form in (ids, [ids])]
    check(forms[0]["choices"] == forms[1]["choices"] and forms[0]["usage"]["prompt_tokens"] == 4, forms)


def streams(client):
    for usage_options, keys in (({}, None), ({"include_usage": True}, "last"),
                                ({"include_usage": True, "continuous_usage_stats": True}, "all")):
        response, chunks = client.streamed(CHAT, {**chat_question(), "stream_options": usage_options})
        check(response.headers["content-type"] == "text/event-stream", response.headers)
        usage = {"prompt_tokens": 13, "completion_tokens": 13, "total_tokens": 26}
        if keys:
            last = chunks.pop()
            check(last["choices"] == [] and last["usage"] == usage, f"the usage chunk is {last}")
            check(last["object"] == "chat.completion.chunk" and last["id"] == chunks[0]["id"], last)
        for number, chunk in enumerate(chunks, 1):
            check(chunk["object"] == "chat.completion.chunk" and "error" not in chunk, chunk)
            check(all(chunk[key] == chunks[0][key] for key in ("id", "created", "model", "system_fingerprint")), chunk)
            check((keys is None and "usage" not in chunk) or (keys == "last" and chunk["usage"] is None) or
                  (keys == "all" and chunk["usage"]["completion_tokens"] == number), f"{keys}: {chunk}")
            choice, = chunk["choices"]
            check(choice["index"] == 0 and isinstance(choice["delta"], dict), chunk)
            check(("role" in choice["delta"]) == (number == 1), f"role in chunk {number}: {chunk}")
            check((choice["finish_reason"] is not None) == (number == len(chunks)), f"finish in chunk {number}: {chunk}")
        check("".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == ANSWER, chunks)
        check(chunks[0]["choices"][0]["delta"]["role"] == "assistant" and chunks[0]["choices"][0]["delta"]["content"],
              f"the first chunk brings no text: {chunks[0]}")
        check(chunks[-1]["choices"][0]["finish_reason"] == "stop", chunks[-1])
    _, chunks = client.streamed(COMPLETIONS, {"prompt": "7 8 9", "max_tokens": 5, "temperature": 0, "ignore_eos": True})
    check(all(c["object"] == "text_completion" and isinstance(c["choices"][0]["text"], str) for c in chunks), chunks)
    check([c["choices"][0]["finish_reason"] for c in chunks] == [None] * 4 + ["length"], chunks)


def settings(client):
    story = {"messages": [{"role": "user", "content": "Tell a story."}], "temperature": 1.3, "top_p": 1, "max_tokens": 30}
    seeded = [client.text(**story, seed=seed) for seed in (7, 7, 8, -3, -3)]
    check(seeded[0] == seeded[1] and seeded[3] == seeded[4] and len(set(seeded)) == 3, f"seeds: {seeded}")
    check(client.text(**story) != client.text(**story), "without a seed two answers are the same")
    for stop in ("151", ["xyz", "151"], " 151", "= 151"):
        for streamed in (False, True):
            if streamed:
                chunks = client.streamed(CHAT, {**chat_question(), "stop": stop})[1]
                text = "".join(c["choices"][0]["delta"]["content"] for c in chunks)
                finish = chunks[-1]["choices"][0]["finish_reason"]
            else:
                choice = client.whole(CHAT, {**chat_question(), "stop": stop})[1]["choices"][0]
                text, finish = choice["message"]["content"], choice["finish_reason"]
            wanted = ANSWER[:ANSWER.index(stop if isinstance(stop, str) else stop[1])]
            check(text == wanted and finish == "stop", f"stop {stop!r}: {text!r} {finish}")
    for name in ("max_tokens", "max_completion_tokens"):
        body = client.whole(CHAT, {**chat_question(), "max_tokens": None, name: 3})[1]
        check(body["usage"]["completion_tokens"] == 3 and body["choices"][0]["finish_reason"] == "length", f"{name}: {body}")
    nulls = dict.fromkeys(("top_p", "top_k", "min_p", "n", "stop", "seed", "stream", "stream_options", "logprobs",
                           "top_logprobs", "tools", "tool_choice", "response_format", "logit_bias", "presence_penalty",
                           "frequency_penalty", "repetition_penalty", "user", "ignore_eos", "max_completion_tokens",
                           "stop_token_ids", "chat_template_kwargs", "model", "best_of", "echo", "suffix"))
    check(client.text(**nulls) == ANSWER, "null is not the default")
    harmless = {"n": 1, "best_of": 1, "logprobs": False, "tools": [], "tool_choice": "auto", "logit_bias": {},
                "response_format": {"type": "text"}, "repetition_penalty": 1.0, "top_k": -1, "echo": False}
    check(client.text(**harmless) == ANSWER, "fields that ask for nothing change the answer")
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is 87"}, {"type": "text", "text": " + 64?"}]}]
    check(client.text(messages=parts) == ANSWER, "content as parts")
    ended = client.whole(CHAT, {**chat_question(), "ignore_eos": True, "max_tokens": 40})[1]
    check(ended["usage"]["completion_tokens"] == 40, f"ignore_eos: {ended['usage']}")
    check(client.text(temperature=0, top_k=1, presence_penalty=2, frequency_penalty=2) != "", "penalties")


def models(client):
    listed = ask(client.port, request("GET", "/v1/models")).json()
    model, = listed["data"]
    check(listed["object"] == "list" and model["object"] == "model" and isinstance(model["created"], int), listed)
    check(model["id"] == model["root"] == "tiny-deepseek-v3" and model["max_model_len"] == 4096, model)
    check({"owned_by", "parent", "permission"} <= set(model) and model["cluster"]["ranks"] == 4, model)
    check(ask(client.port, request("GET", "/v1/models/tiny-deepseek-v3")).json() == model, "one model differs from the list")
    check(ask(client.port, request("GET", "/v1/models/tiny%2Ddeepseek-v3")).json() == model, "escapes in an id")
    check(client.text(model="tiny-deepseek-v3") == ANSWER, "the model by its name")


def the_first_questions(client):
    """What quickstart asks."""
    run = subprocess.run([sys.executable, os.path.join(SOURCE, "deploy", "ask.py"), f"http://127.0.0.1:{client.port}"],
                         capture_output=True, text=True, timeout=120)
    check(run.returncode == 0 and run.stderr == "", f"ask.py: {run}")
    for word in (ANSWER, '{"name": "Ivan", "age": 4, "color": "orange"}', "tokens/s", "ranks 4, tensor_parallel 2"):
        check(word in run.stdout, f"ask.py says nothing of {word!r}: {run.stdout}")


def a_loading_server():
    """Its ranks never come: they are somebody else's to start."""
    server = Server(ranks=2, tp=1, args=["--external-ranks"])
    try:
        server.wait_listening()
        for data in (request("GET", "/health"), request("POST", CHAT, chat_question())):
            response = ask(server.port, data)
            problem = error_problem(response, 503, "loading")
            check(problem is None and response.json()["error"]["code"] == "loading", f"while loading: {problem}")
        check(ask(server.port, request("GET", "/v1/models")).status == 200, "/v1/models while loading")
        check(ask(server.port, request("GET", "/metrics")).status == 200, "/metrics while loading")
    finally:
        check(server.stop() == 0, "the exit code while loading")
        server.discard_log()


def a_full_server():
    """Few KV blocks and a queue of one: whoever finds it full is told to come back, and the others get all they asked."""
    long = {**chat_question(), "ignore_eos": True, "max_tokens": 230}
    with Server(ranks=1, tp=1, args=["--kv-tokens", "256", "--max-num-queued-reqs", "1"]) as server:
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda _: ask(server.port, request("POST", CHAT, long)), range(32)))
        refused = [a for a in answers if a.status != 200]
        check(refused and len(refused) < 32, f"{len(refused)} of 32 refused")
        for answer in refused:
            problem = error_problem(answer, 429, "try again")
            check(problem is None and answer.json()["error"]["type"] == "rate_limit_error", f"a full queue: {problem}")
        texts = {a.json()["choices"][0]["message"]["content"] for a in answers if a.status == 200}
        check(len(texts) == 1 and texts.pop().startswith(ANSWER), f"answers of a full server: {texts}")


def main():
    with Server(ranks=4, tp=2) as server:
        client = Client(server.port)
        for part in (whole_answers, streams, settings, models, the_first_questions):
            part(client)
    a_loading_server()
    a_full_server()
    print("\n".join(map(str, failures[:20])) or "every field as clients read it")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
