#!/usr/bin/env python3
"""The HTTP front end against clients that do everything wrong: every mistake gets an error of OpenAI's shape that says
what was wrong, with the right status, and the next good request is answered as if nothing had been."""
import resource
import socket
import sys

from cluster import Server, chat_question
from raw_http import Response, ask, connect, request

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HI = [{"role": "user", "content": "Hi"}]
ONE_MEBIBYTE = 1 << 20


def chat_bodies():
    """(name, body, status, what the message holds, the field or None)"""
    yield "empty body", b"", 400, "empty", None
    yield "no JSON", b"hello", 400, "not JSON", None
    yield "cut JSON", b'{"messages": [{"role": "user"', 400, "not JSON", None
    yield "text after JSON", b'{"messages": []} x', 400, "not JSON", None
    yield "comment in JSON", b'{"messages": [] /* none */}', 400, "not JSON", None
    yield "array", b"[]", 400, "not an object", None
    yield "string", b'"messages"', 400, "not an object", None
    yield "null", b"null", 400, "not an object", None
    yield "NUL", b"\0" * 100, 400, "not JSON", None
    yield "bytes that are not UTF-8", b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}', 400, "UTF-8", None
    yield "half a surrogate pair", b'{"messages": [{"role": "user", "content": "\\ud800"}]}', 400, "surrogate", None
    yield "NaN", b'{"messages": [], "temperature": NaN}', 400, "not JSON", None
    yield "Infinity", b'{"messages": [], "temperature": Infinity}', 400, "not JSON", None
    yield "1e999", b'{"messages": [], "temperature": 1e999}', 400, "overflow", None
    yield "100,000 brackets", b"[" * 100000, 400, "nests more than", None
    yield "100,000 objects", b'{"a":' * 100000, 400, "nests more than", None
    yield "deep template arguments", (b'{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"a": '
                                      + b"[" * 120 + b"]" * 120 + b"}}"), 400, "nests more than", None
    yield "17 MiB", b'{"messages": "' + b"a" * 17 * ONE_MEBIBYTE + b'"}', 413, "16 MiB", None
    yield "15 MiB of text", {"messages": [{"role": "user", "content": "a " * (15 * ONE_MEBIBYTE // 2)}]}, 400, "context", "messages"

    for name, value in (("missing", None), ("string", "Hi"), ("object", {}), ("empty", []), ("number", 3)):
        yield f"messages: {name}", {"messages": value}, 400, "messages", "messages"
    for name, message, field in (
            ("a string", "Hi", "messages[0]"), ("without role", {"content": "Hi"}, "messages[0].role"),
            ("role a number", {"role": 1, "content": "Hi"}, "messages[0].role"),
            ("content a number", {"role": "user", "content": 5}, "messages[0].content"),
            ("an image", {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content"),
            ("parts of strings", {"role": "user", "content": ["Hi"]}, "messages[0].content"),
            ("a part without text", {"role": "user", "content": [{"type": "text"}]}, "messages[0].content"),
            ("a call without a function", {"role": "assistant", "tool_calls": [{"id": "1"}]}, "messages[0].tool_calls[0]"),
            ("calls that are no list", {"role": "assistant", "tool_calls": 5}, "messages[0].tool_calls"),
            ("arguments that are no object", {"role": "assistant", "tool_calls": [
                {"id": "1", "function": {"name": "f", "arguments": "[1]"}}]}, "messages[0].tool_calls[0].function.arguments"),
            ("tool_call_id a number", {"role": "tool", "content": "x", "tool_call_id": 1}, "messages[0].tool_call_id"),
            ("unknown role", {"role": "wizard", "content": "Hi"}, "messages")):
        yield f"message {name}", {"messages": [message]}, 400, field.split("[")[0] if field != "messages" else "wizard", field
    yield "second message bad", {"messages": HI + [{"role": "user", "content": 1}]}, 400, "messages[1]", "messages[1].content"

    for field, values in {
            "model": [5], "max_tokens": [0, -1, 1.5, "10", True, 2**31, 2**63, 2**64, -2**70],
            "max_completion_tokens": [0, "x"], "temperature": [-0.1, "hot", 1e39, -1e39, [1], 101],
            "top_p": [1.5, -1, "x"], "top_k": [1.5, -2, 2**40], "min_p": [2, -0.5], "presence_penalty": [3],
            "frequency_penalty": [-3], "repetition_penalty": [-1, 1e30], "seed": [1.5, "x", 2**64], "n": [0, 129, "1"],
            "logprobs": [1, "yes"], "top_logprobs": [5, 21, -1, "x"], "logit_bias": [{"5": 100}], "min_tokens": [3],
            "stop": [5, [5], [""], ["a"] * 17, {"a": 1}], "stop_token_ids": ["x", [-1], [1.5]],
            "stream": ["yes", 1], "stream_options": [5, "x"], "ignore_eos": ["no"], "chat_template_kwargs": [5],
            "response_format": [{"type": "json_object"}], "parallel_tool_calls": [False],
            "tools": [[{"type": "function"}], "x", [5], [{"type": "web", "function": {"name": "f"}}],
                      [{"type": "function", "function": {"name": "f"}}]],  # the model's template has no place for them
            "tool_choice": ["required", {"type": "function", "function": {"name": "f"}}, "sometimes", 5]}.items():
        for value in values:
            yield f"{field}: {str(value)[:20]}", {"messages": HI, field: value}, 400, field, field
    yield "include_usage: 1", {"messages": HI, "stream_options": {"include_usage": 1}}, 400, "true or false", "stream_options.include_usage"
    yield "unknown model", {"messages": HI, "model": "gpt-9"}, 404, "gpt-9", "model"
    yield "max_tokens over the context", {"messages": HI, "max_tokens": 5000}, 400, "4096", "messages"


def completion_bodies():
    for name, value in (("missing", None), ("empty", []), ("object", {}), ("mixed", [1, "a"]), ("several", ["a", "b"]),
                        ("several id lists", [[1], [2]]), ("fraction", [1.5]), ("negative", [-1]), ("number", 7)):
        yield f"prompt: {name}", {"prompt": value}, 400, "prompt", "prompt"
    yield "prompt beyond the vocabulary", {"prompt": [1, 999999]}, 400, "999999", None
    yield "empty prompt ids inside", {"prompt": [[]]}, 400, "prompt", "prompt"
    yield "prompt over the context", {"prompt": [5] * 5000}, 400, "5000", "prompt"
    for field, value in (("echo", True), ("suffix", "x"), ("best_of", 2), ("logprobs", 21), ("logprobs", True)):
        yield f"{field}: {value}", {"prompt": "Hi", field: value}, 400, field, field


def wire_mistakes():
    """(name, bytes, status, word): what is no proper HTTP, or asks for what is not there."""
    good = request("POST", CHAT, {"messages": HI, "max_tokens": 1})
    for method, path, status, word in (("GET", CHAT, 405, "POST"), ("PUT", CHAT, 405, "POST"), ("DELETE", "/v1/models", 405, "GET"),
                                       ("POST", "/health", 405, "GET"), ("POST", "/metrics", 405, "GET"), ("GET", "/", 404, "/v1/models"),
                                       ("GET", "/v1/models/none", 404, "none"), ("POST", "/v1/embeddings", 404, "/v1/embeddings"),
                                       ("GET", "/v1/modelsx", 404, "modelsx"), ("GET", "/" + "a" * 9000, 404, "does not exist"),
                                       ("FLY", CHAT, 405, "FLY"), ("OPTIONS", CHAT, 405, "POST")):
        yield f"{method} {path[:30]}", request(method, path), status, word
    yield "a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300), 400, "HTTP"
    yield "binary rubbish", bytes(range(1, 256)) * 10, 400, "HTTP"
    yield "no version", b"GET /health\r\n\r\n", 400, "HTTP"
    yield "HTTP/9.9", b"GET /health HTTP/9.9\r\n\r\n", 400, "HTTP"
    yield "a header without a colon", b"GET /health HTTP/1.1\r\nHost test\r\n\r\n", 400, "HTTP"
    yield "a space in a header's name", b"GET /health HTTP/1.1\r\nHo st: test\r\n\r\n", 400, "HTTP"
    yield "a flood of headers", b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n", 431, "headers"
    yield "a header of 100 KiB", b"GET /health HTTP/1.1\r\nX: " + b"y" * 102400 + b"\r\n\r\n", 431, "headers"
    yield "a path of 100 KiB", b"GET /" + b"y" * 102400 + b" HTTP/1.1\r\n\r\n", 431, "headers"
    for value in (b"-5", b"five", b"99999999999999999999999", b"5, 6", b""):
        yield f"Content-Length: {value.decode()}", b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: " + value + b"\r\n\r\n{}", 400, "HTTP"
    yield "two lengths", b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "HTTP"
    yield "a length and chunks", b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP"
    yield "a bad chunk", b"POST " + CHAT.encode() + b" HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, "HTTP"
    yield "a length of 10 GB", b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: 10000000000\r\n\r\n{}", 413, "16 MiB"
    yield "a length below the body's", good.replace(b"Content-Length: ", b"Content-Length: 1\r\nX: "), 400, "not JSON"


def early_leavers(port):
    """They go in the middle of their request; nobody is there to be told."""
    good = request("POST", CHAT, {"messages": HI, "max_tokens": 400, "ignore_eos": True})
    for part in (b"", b"PO", good[:40], good[:-10], good):
        with connect(port) as client:
            client.sendall(part)
    with connect(port) as client:  # half closed: no more can come of a body that is 10 bytes short
        client.sendall(good[:-10])
        client.shutdown(socket.SHUT_WR)
        if client.recv(100) not in (b"",):
            raise AssertionError("half a request got an answer")


def error_problem(response, status, word, field=...):
    """What is wrong with the answer to a wrong request, or None."""
    if response.status != status:
        return f"status {response.status}, expected {status}: {response.body[:300]}"
    if response.headers.get("content-type") != "application/json" or not response.headers.get("x-request-id"):
        return f"headers {response.headers}"
    if status in (429, 503) and not response.headers.get("retry-after"):
        return "no Retry-After"
    if status == 405 and not response.headers.get("allow"):
        return "no Allow"
    body = response.json()
    error = body.get("error")
    if list(body) != ["error"] or sorted(error) != ["code", "message", "param", "type"]:
        return f"not OpenAI's shape: {body}"
    if not isinstance(error["message"], str) or not isinstance(error["type"], str) or not all(
            error[key] is None or isinstance(error[key], str) for key in ("code", "param")):
        return f"wrong types: {body}"
    if word.lower() not in error["message"].lower() or len(error["message"]) > 600:
        return f"the message does not say {word!r} in short: {error['message'][:700]!r}"
    if field is not ... and error["param"] != field:
        return f"param is {error['param']!r}, not {field!r}"
    return None


def good_problem(port):
    response = ask(port, request("POST", CHAT, chat_question()))
    if response.status != 200 or response.json()["choices"][0]["message"]["content"] != "87 + 64 = 151.":
        return f"the next good request got {response.status} {response.body[:300]}"
    return None


def mistakes(port):
    for path, bodies in ((CHAT, chat_bodies()), (COMPLETIONS, completion_bodies())):
        for name, body, status, word, field in bodies:
            yield f"{path} {name}", error_problem(ask(port, request("POST", path, body)), status, word, field)
    for name, data, status, word in wire_mistakes():
        yield name, error_problem(ask(port, data), status, word)


def unusual_but_right(port):
    """(name, whether it went well)"""
    question = request("POST", CHAT, chat_question())
    with connect(port) as client:  # byte by byte
        for byte in question:
            client.send(bytes([byte]))
        with client.makefile("rb") as reader:
            yield "byte by byte", Response(reader).status == 200
    with connect(port) as client:  # one after the other without waiting, a stream among them
        client.sendall(question + request("POST", CHAT, {**chat_question(), "stream": True}) + request("GET", "/nowhere") + question)
        with client.makefile("rb") as reader:
            answers = [Response(reader) for _ in range(4)]
        yield "pipelined", [a.status for a in answers] == [200, 200, 404, 200] and answers[1].events()[-1] == "[DONE]"
    with connect(port) as client:
        head, body = question.split(b"\r\n\r\n", 1)
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        with client.makefile("rb") as reader:
            first = Response(reader)
            client.sendall(body)
            yield "Expect: 100-continue", first.status == 100 and Response(reader).status == 200
    chunked = (b"POST " + CHAT.encode() + b" HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" +
               b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n")
    yield "a chunked body", ask(port, chunked).status == 200
    old = ask(port, request("POST", CHAT, {**chat_question(), "stream": True}, version="HTTP/1.0"))
    yield "HTTP/1.0", old.status == 200 and old.chunks is None and old.events()[-1] == "[DONE]"
    head = ask(port, request("HEAD", "/health"), head=True)
    yield "HEAD", head.status == 200 and int(head.headers["content-length"]) > 0 and head.body == b""
    yield "a query in the path", ask(port, request("GET", "/health?verbose=1")).status == 200
    yield "Unicode", ask(port, request("POST", CHAT, {"messages": [{"role": "user", "content": "😀 \0 é \u2028"}], "max_tokens": 2})).status == 200


def hoarders(port):
    """More idle connections than the server holds: whoever asks something is served."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    held = [connect(port) for _ in range(1500)]
    for client in held[::2]:
        try:
            client.send(b"POST /v1/chat")  # half of them have begun
        except OSError:
            pass
    problem = good_problem(port)
    for client in held:
        client.close()
    return problem


def main():
    failures, count = [], 0
    with Server(ranks=2, tp=1) as server:
        before = server.metrics()
        for name, problem in mistakes(server.port):
            count += 1
            problem = problem or good_problem(server.port)
            if problem:
                failures.append(f"{name}: {problem}")
        early_leavers(server.port)
        for name, well in unusual_but_right(server.port):
            if not well:
                failures.append(f"{name} did not work")
        problem = hoarders(server.port) or good_problem(server.port)
        if problem:
            failures.append(f"1500 idle connections: {problem}")
        after = server.metrics()
        for name in ("atoll_restarts_total", "atoll_requests_failed_total"):
            if after[name] != before[name]:
                failures.append(f"{name} went from {before[name]} to {after[name]}")
        if "broken invariant" in server.log_text():
            failures.append("the log holds a broken invariant")
    print("\n".join(failures) or f"{count} mistakes, each with a clear error, and the next good request answered")
    return 1 if failures or count < 40 else 0


if __name__ == "__main__":
    sys.exit(main())
