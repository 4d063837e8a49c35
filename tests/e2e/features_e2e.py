#!/usr/bin/env python3
"""Template arguments, tools, several choices and log-probabilities over HTTP, with a template that knows them all."""
import json
import math
import os
import sys
import tempfile

from cluster import MODEL, Server, chat_question
from raw_http import ask, request

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ANSWER = "87 + 64 = 151."
# The shipped model's, with a word where thinking is on and for tools, calls and their answers. It adds arguments to a
# text as DeepSeek's does, so an object there would raise.
TEMPLATE = (
    "{{ bos_token }}{% if enable_thinking %}think hard {% endif %}{% if tools %}<tool_call> {{ tools | tojson }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}"
    "{% elif m['role'] == 'tool' %}{{ '[' + m['tool_call_id'] + ':' + m['content'] + ']' }}"
    "{% elif m['role'] == 'assistant' and m['content'] is none %}"
    "{% for c in m['tool_calls'] %}{{ c['id'] + c['function']['name'] + c['function']['arguments'] }}{% endfor %}"
    "{% else %}{{ '<｜Assistant｜>' + m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}")
TOOL = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)


def model_with_template(folder):
    for name in os.listdir(MODEL):
        if name != "tokenizer_config.json":
            os.symlink(os.path.join(MODEL, name), os.path.join(folder, name))
    with open(os.path.join(MODEL, "tokenizer_config.json"), encoding="utf-8") as file:
        config = json.load(file)
    config["chat_template"] = TEMPLATE
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)


def whole(port, path, body):
    response = ask(port, request("POST", path, body))
    if response.status != 200:
        raise AssertionError(f"{body}: {response.status} {response.body}")
    return response.json()


def streamed(port, path, body):
    events = ask(port, request("POST", path, {**body, "stream": True})).events()
    check(events[-1] == "[DONE]", f"{body}: the stream ends {events[-2:]}")
    return [json.loads(event) for event in events[:-1]]


def prompt_tokens(port, **fields):
    return whole(port, CHAT, {**chat_question(), "max_tokens": 1, **fields})["usage"]["prompt_tokens"]


def template_arguments(port):
    plain = prompt_tokens(port)
    check(prompt_tokens(port, chat_template_kwargs={"enable_thinking": False}) == plain, "thinking off adds tokens")
    check(prompt_tokens(port, chat_template_kwargs={"enable_thinking": True}) > plain, "enable_thinking does not arrive")
    streams = [streamed(port, CHAT, {**chat_question(), "max_tokens": 1, "stream_options": {"include_usage": True},
                                     "chat_template_kwargs": {"enable_thinking": on}})[-1]["usage"]["prompt_tokens"]
               for on in (False, True)]
    check(streams[0] == plain < streams[1], f"streamed: {streams}")


def tools(port):
    plain = prompt_tokens(port)
    with_tools = prompt_tokens(port, tools=[TOOL])
    check(with_tools > plain + 10, f"tools do not arrive: {with_tools} and {plain} tokens")
    check(prompt_tokens(port, tools=[TOOL], tool_choice="auto") == with_tools, "auto is something else than nothing")
    check(prompt_tokens(port, tools=[TOOL], tool_choice="none") == plain, "none leaves tools in the prompt")
    check(prompt_tokens(port, tools=[], tool_choice=None) == plain, "no tools are tools")
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        response = ask(port, request("POST", CHAT, {**chat_question(), "tools": [TOOL], "tool_choice": choice}))
        error = response.json()["error"]
        check(response.status == 400 and error["param"] == "tool_choice" and "auto" in error["message"], error)
    call = {"id": "call1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 87}"}}
    history = chat_question()["messages"] + [{"role": "assistant", "content": None, "tool_calls": [call]},
                                             {"role": "tool", "tool_call_id": "call1", "content": "151"}]
    used = prompt_tokens(port, messages=history)
    check(used > plain + 10, f"a history of calls has {used} tokens, the question {plain}")
    # No call comes of this model: all it says is content, in tools' company too.
    for body in (chat_question(), {**chat_question(), "tools": [TOOL], "messages": chat_question()["messages"]}):
        text = whole(port, CHAT, body)["choices"][0]
        parts = streamed(port, CHAT, body)
        content = "".join(p["choices"][0]["delta"].get("content") or "" for p in parts)
        check(content == text["message"]["content"] and text["finish_reason"] == parts[-1]["choices"][0]["finish_reason"]
              and "tool_calls" not in text["message"], (text, content))


def choices(port):
    story = {"messages": [{"role": "user", "content": "Tell a story."}], "temperature": 1.3, "max_tokens": 24, "seed": 5}
    one = whole(port, CHAT, story)
    body = whole(port, CHAT, {**story, "n": 3})
    texts = [choice["message"]["content"] for choice in body["choices"]]
    check([choice["index"] for choice in body["choices"]] == [0, 1, 2] and len(set(texts)) == 3, texts)
    check(texts[0] == one["choices"][0]["message"]["content"], f"choice 0 of 3 is not the only one: {texts[0]!r}")
    check(body["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"], body["usage"])
    check(body["usage"]["completion_tokens"] > one["usage"]["completion_tokens"], body["usage"])
    chunks = streamed(port, CHAT, {**story, "n": 3, "stream_options": {"include_usage": True}})
    check(chunks[-1]["choices"] == [] and chunks.pop()["usage"] == body["usage"], "usage of three streamed choices")
    seen, joined, finished = [], ["", "", ""], [0, 0, 0]
    for chunk in chunks:
        choice, = chunk["choices"]
        index = choice["index"]
        check(("role" in choice["delta"]) == (index not in seen), f"role in {chunk}")
        seen += [index] if index not in seen else []
        joined[index] += choice["delta"].get("content", "")
        finished[index] += choice["finish_reason"] is not None
    check(seen == [0, 1, 2] and joined == texts and finished == [1, 1, 1], (seen, finished, joined, texts))
    many = whole(port, COMPLETIONS, {"prompt": "7 8 9", "n": 9, "temperature": 1, "max_tokens": 4, "seed": 1})
    check([choice["index"] for choice in many["choices"]] == list(range(9)), many["choices"])


def logprobs(port):
    body = whole(port, CHAT, {**chat_question(), "logprobs": True, "top_logprobs": 4})
    content = body["choices"][0]["logprobs"]["content"]
    check(len(content) == body["usage"]["completion_tokens"], f"{len(content)} entries")
    check("".join(bytes(e["bytes"]).decode() for e in content[:-1]) == ANSWER, content)
    for entry in content:
        top = entry["top_logprobs"]
        values = [t["logprob"] for t in top]
        check(len(top) == 4 and values == sorted(values, reverse=True) and values[0] <= 0, entry)
        check(top[0]["token"] == entry["token"] and values[0] == entry["logprob"], f"greedy is not the best: {entry}")
        check(sum(map(math.exp, values)) <= 1.0001, entry)
    chunks = streamed(port, CHAT, {**chat_question(), "logprobs": True, "top_logprobs": 4})
    check([e for c in chunks for e in (c["choices"][0]["logprobs"] or {"content": []})["content"]] == content,
          "streamed log-probabilities are others")
    check(whole(port, CHAT, {**chat_question(), "logprobs": True})["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == [],
          "top_logprobs without being asked")
    body = whole(port, COMPLETIONS, {"prompt": "7 8 9", "max_tokens": 6, "temperature": 0, "logprobs": 2, "ignore_eos": True})
    choice = body["choices"][0]
    got = choice["logprobs"]
    check([len(got[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")] == [6] * 4, got)
    shown = [token for token in got["tokens"] if not token.startswith("<｜")]
    check("".join(shown) == choice["text"] and len(shown) > 1, f"{got} and {choice['text']!r}")
    check([choice["text"][at:at + len(token)] for at, token in zip(got["text_offset"], got["tokens"]) if token in shown] == shown,
          f"text_offset: {got}")
    check(all(max(top.values()) == value for top, value in zip(got["top_logprobs"], got["token_logprobs"])), got)
    return content


def main():
    values = []
    with tempfile.TemporaryDirectory(prefix="atoll-features-") as folder:
        model_with_template(folder)
        for ranks, tp in ((1, 1), (2, 2)):
            with Server(model=folder, ranks=ranks, tp=tp) as server:
                values.append(logprobs(server.port))
                if ranks == 1:
                    template_arguments(server.port)
                    tools(server.port)
                    choices(server.port)
    check(values[0] == values[1], "log-probabilities depend on the degree of tensor parallelism")
    print("\n".join(map(str, failures)) or "template arguments, tools, choices and log-probabilities are what clients expect")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
