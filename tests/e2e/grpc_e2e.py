#!/usr/bin/env python3
"""The gRPC front end, through a client that learns everything from reflection: answers, health, and the status codes of
all that can be wrong."""
import signal
import sys
import threading
import time

import grpc

from cluster import Server
from reflecting_client import ReflectingClient

INFERENCE, HEALTH = "atoll.v1.Inference", "grpc.health.v1.Health"
QUESTION = {"messages": [{"role": "user", "content": "What is 87 + 64?"}], "max_tokens": 64, "temperature": 0}
ANSWER = "87 + 64 = 151."
SERVING, NOT_SERVING = 1, 2
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)


def error_of(call):
    """(code, details) of a call that fails."""
    try:
        result = call()
        if hasattr(result, "__iter__"):
            result = list(result)
        return None, str(result)
    except grpc.RpcError as error:
        return error.code(), error.details()


def good(client):
    messages = list(client.call(INFERENCE, "Generate", **QUESTION))
    text, last = "".join(m.text for m in messages), messages[-1]
    return text == ANSWER and last.finish_reason == "stop" and last.usage.completion_tokens == 13


def answers(client):
    check(set(client.services()) == {INFERENCE, HEALTH, "grpc.reflection.v1alpha.ServerReflection"}, client.services())
    messages = list(client.call(INFERENCE, "Generate", **QUESTION))
    check("".join(m.text for m in messages) == ANSWER, messages)
    tokens = [token for m in messages for token in m.token_ids]
    logprobs = [value for m in messages for value in m.logprobs]
    check(len(tokens) == len(logprobs) == 13 and all(value <= 0 for value in logprobs), f"{tokens} {logprobs}")
    check([m.finish_reason for m in messages] == [""] * (len(messages) - 1) + ["stop"], messages)
    check(messages[-1].usage.prompt_tokens == 13 and messages[-1].usage.completion_tokens == 13, messages[-1])

    tokenized = client.call(INFERENCE, "Tokenize", messages=QUESTION["messages"])
    check(len(tokenized.ids) == 13 and tokenized.text.endswith("What is 87 + 64?<｜Assistant｜>"), tokenized)
    plain = client.call(INFERENCE, "Tokenize", text="What is 87 + 64?")
    check(list(plain.ids) == list(tokenized.ids[2:-1]), plain)
    for prompt in ({"prompt_ids": {"ids": tokenized.ids}}, {"prompt": tokenized.text}):
        settings = {key: QUESTION[key] for key in ("max_tokens", "temperature")}
        again = list(client.call(INFERENCE, "Generate", **prompt, **settings))
        check([t for m in again for t in m.token_ids] == tokens or "prompt" in prompt, f"{prompt}: {again}")
        check("".join(m.text for m in again) == ANSWER or "prompt" in prompt, f"{prompt}: {again}")
    stopped = list(client.call(INFERENCE, "Generate", **QUESTION, stop=["151"]))
    check("".join(m.text for m in stopped) == "87 + 64 = " and stopped[-1].finish_reason == "stop", stopped)
    hot = {**QUESTION, "temperature": 1.3, "ignore_eos": True}
    drawn = ["".join(m.text for m in client.call(INFERENCE, "Generate", **hot, seed=seed)) for seed in (4, 4, 5)]
    check(drawn[0] == drawn[1] != drawn[2], f"seeds: {drawn}")

    info = client.call(INFERENCE, "ModelInfo")
    check(info.name == "tiny-deepseek-v3" and info.architecture == "deepseek_v3" and info.vocab == 1024 and
          info.max_positions == 4096 and info.parameters > info.active_parameters > 1e6, info)
    shape = info.cluster
    check((shape.ranks, shape.tensor_parallel, shape.attention_groups, shape.experts, shape.profile, shape.ready) ==
          (4, 2, 2, 32, "f32", True), shape)
    check(client.call(HEALTH, "Check").status == SERVING, "health of the process")
    check(client.call(HEALTH, "Check", service=INFERENCE).status == SERVING, "health of the service")


def mistakes(client):
    """(name, call, code, word)"""
    code = grpc.StatusCode

    def generate(**fields):
        return lambda: client.call(INFERENCE, "Generate", **{**QUESTION, **fields})

    yield "no input", lambda: client.call(INFERENCE, "Generate", max_tokens=3), code.INVALID_ARGUMENT, "exactly one"
    yield "two inputs", generate(prompt="Hi"), code.INVALID_ARGUMENT, "exactly one"
    yield "an empty prompt", lambda: client.call(INFERENCE, "Generate", prompt_ids={}), code.INVALID_ARGUMENT, "empty"
    yield "an unknown model", generate(model="gpt-9"), code.NOT_FOUND, "gpt-9"
    yield "an unknown role", generate(messages=[{"role": "wizard", "content": "Hi"}]), code.INVALID_ARGUMENT, "wizard"
    yield "a token beyond the vocabulary", lambda: client.call(INFERENCE, "Generate", prompt_ids={"ids": [99999]}), code.INVALID_ARGUMENT, "99999"
    yield "a negative token", lambda: client.call(INFERENCE, "Generate", prompt_ids={"ids": [-4]}), code.INVALID_ARGUMENT, "-4"
    yield "over the context", generate(max_tokens=100000), code.INVALID_ARGUMENT, "4096"
    yield "a prompt over the context", lambda: client.call(INFERENCE, "Generate", prompt="a " * 9000), code.INVALID_ARGUMENT, "4096"
    for field, value in (("max_tokens", 0), ("max_tokens", -5), ("temperature", -1), ("temperature", float("nan")),
                         ("temperature", float("inf")), ("top_p", 1.5), ("top_k", -3), ("min_p", 7), ("repetition_penalty", -1),
                         ("presence_penalty", 5), ("frequency_penalty", -5), ("stop", [""]), ("stop", ["x"] * 17)):
        yield f"{field} {value}", generate(**{field: value}), code.INVALID_ARGUMENT, field
    yield "nothing to tokenize", lambda: client.call(INFERENCE, "Tokenize"), code.INVALID_ARGUMENT, "text or messages"
    yield "tokenize both", lambda: client.call(INFERENCE, "Tokenize", text="a", messages=QUESTION["messages"]), code.INVALID_ARGUMENT, "text or messages"
    yield "health of nothing", lambda: client.call(HEALTH, "Check", service="atoll.v1.Nothing"), code.NOT_FOUND, ""
    channel = client.channel
    yield "an unknown method", lambda: channel.unary_unary(f"/{INFERENCE}/Fly")(b""), code.UNIMPLEMENTED, ""
    yield "ranks' control on this port", lambda: channel.unary_unary("/atoll.v1.Control/Join")(b""), code.UNIMPLEMENTED, ""
    yield "bytes that are no message", lambda: channel.unary_stream(f"/{INFERENCE}/Generate")(b"\xff" * 50), code.UNIMPLEMENTED, ""  # the library's own answer
    yield "a message of 8 MiB", generate(messages=[{"role": "user", "content": "a" * (8 << 20)}]), code.RESOURCE_EXHAUSTED, "larger than max"


def leavers(server, client):
    """A cancelled call and one whose deadline passes free their blocks."""
    endless = {**QUESTION, "max_tokens": 3900, "ignore_eos": True}
    free = server.metrics()["atoll_kv_blocks_free"]
    call = client.call(INFERENCE, "Generate", **endless)
    next(iter(call))
    check(server.metrics()["atoll_kv_blocks_free"] < free, "a running call holds no blocks")
    call.cancel()
    check(until(lambda: server.metrics()["atoll_kv_blocks_free"] == free), "a cancelled call keeps its blocks")
    code, _ = error_of(lambda: client.call(INFERENCE, "Generate", timeout=0.3, **endless))
    check(code == grpc.StatusCode.DEADLINE_EXCEEDED, f"a deadline ends with {code}")
    check(until(lambda: server.metrics()["atoll_kv_blocks_free"] == free), "a call over its deadline keeps its blocks")


def until(what, seconds=10):
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.01)
    return what()


def a_loading_server():
    server = Server(ranks=2, tp=1, args=["--external-ranks"])
    try:
        server.wait_listening()
        client = ReflectingClient(f"127.0.0.1:{server.grpc_port}")
        code, details = error_of(lambda: client.call(INFERENCE, "Generate", **QUESTION))
        check(code == grpc.StatusCode.UNAVAILABLE and "loading" in details, f"while loading: {code} {details}")
        check(client.call(HEALTH, "Check").status == SERVING, "a loading process is alive")
        check(client.call(HEALTH, "Check", service=INFERENCE).status == NOT_SERVING, "a loading service is not ready")
        check(not client.call(INFERENCE, "ModelInfo").cluster.ready, "ModelInfo says ready while loading")
        client.close()
    finally:
        server.stop()
        server.discard_log()


def drain():
    """Health says so at once, also to those who watch; the running call ends whole, a new one is refused."""
    with Server(ranks=2, tp=1) as server:
        client = ReflectingClient(f"127.0.0.1:{server.grpc_port}")
        seen = []

        def watch():
            try:
                seen.extend(message.status for message in client.call(HEALTH, "Watch", service=INFERENCE))
            except grpc.RpcError as error:
                seen.append(error.code())

        watcher = threading.Thread(target=watch)
        watcher.start()
        check(until(lambda: SERVING in seen), "a watcher never hears that the service is up")
        call = iter(client.call(INFERENCE, "Generate", **{**QUESTION, "max_tokens": 800, "ignore_eos": True}))
        messages = [next(call)]
        server.process.send_signal(signal.SIGTERM)
        check(until(lambda: seen[-1] == NOT_SERVING), f"a watcher of health saw {seen} after SIGTERM")
        code, details = error_of(lambda: client.call(INFERENCE, "Generate", **QUESTION))
        check(code == grpc.StatusCode.UNAVAILABLE, f"a new call while draining: {code} {details}")
        messages += list(call)
        check(messages[-1].finish_reason == "length" and messages[-1].usage.completion_tokens == 800, messages[-1])
        check(server.process.wait(30) == 0, f"exit code {server.process.returncode}")
        watcher.join(30)
        client.close()


def main():
    count = 0
    with Server(ranks=4, tp=2) as server:
        client = ReflectingClient(f"127.0.0.1:{server.grpc_port}")
        answers(client)
        for name, call, code, word in mistakes(client):
            count += 1
            got, details = error_of(call)
            check(got == code and word in details, f"{name}: {got} {details}, expected {code} {word!r}")
            check(good(client), f"{name}: the next good request fails")
        leavers(server, client)
        check(good(client), "the last good request fails")
        check(server.metrics()["atoll_restarts_total"] == 0, "ranks were lost on the way")
        client.close()
    a_loading_server()
    drain()
    print("\n".join(map(str, failures[:20])) or f"answers, health, reflection, and {count} mistakes with the right codes")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
