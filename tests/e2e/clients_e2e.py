#!/usr/bin/env python3
"""Clients that leave, clients that do not read, and a server that is told to go.

A client that leaves frees its KV blocks within a step or so; one that does not read stalls itself alone, at a bounded
price; SIGTERM lets running answers finish and takes no new ones, a second one ends all at once; the exit code is 0.
"""
import concurrent.futures
import json
import signal
import socket
import sys
import threading
import time

from cluster import Server, alive, anonymous_kib, chat_question
from http_e2e import error_problem, good_problem
from raw_http import Response, ask, connect, request

CHAT = "/v1/chat/completions"
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)


def endless(tokens, **fields):
    """A request for so many tokens."""
    return request("POST", CHAT, {**chat_question(), "ignore_eos": True, "max_tokens": tokens, **fields})


def until(what, seconds=30):
    """Seconds until `what()` holds; None if it never does."""
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        if what():
            return time.monotonic() - start
        time.sleep(0.005)
    return None


def leavers(server):
    free = server.metrics()["atoll_kv_blocks_free"]
    for streamed in (True, False):
        cancelled = server.metrics()["atoll_requests_cancelled_total"]
        with connect(server.port) as client:
            client.sendall(endless(3500, stream=streamed))
            busy = until(lambda: server.metrics()["atoll_kv_blocks_free"] < free)
            check(busy is not None, "the request took no blocks")
            if streamed:
                client.recv(1000)
        left = server.metrics()
        seconds = until(lambda: server.metrics()["atoll_kv_blocks_free"] == free)
        after = server.metrics()
        check(seconds is not None and seconds < 2, f"stream {streamed}: blocks free after {seconds} s")
        check(after["atoll_requests_cancelled_total"] == cancelled + 1, f"stream {streamed}: not counted as cancelled")
        print(f"a client left {'a stream' if streamed else 'a whole answer'}: its blocks were free {seconds} s and "
              f"{after['atoll_steps_total'] - left['atoll_steps_total']:.0f} steps later")


class SlowReader:
    """Asks for a long stream and does not read it."""

    def __init__(self, port, data):
        self.client = connect(port, timeout=120, receive_buffer=4096)
        self.client.sendall(data)

    def read_all(self):
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with self.client, self.client.makefile("rb") as reader:
            return "".join(json.loads(event)["choices"][0]["delta"]["content"] for event in Response(reader).events()[:-1])


def slow_readers(server):
    """Three of them; their streams stop growing, everybody else's do not, and theirs are whole in the end."""
    free = server.metrics()["atoll_kv_blocks_free"]  # before any request: an answer comes before its blocks are free
    slow_question = endless(1600, stream=True)
    quick_text = ask(server.port, endless(1600)).json()["choices"][0]["message"]["content"]
    before, memory = server.metrics(), anonymous_kib([server.process.pid])
    slow = [SlowReader(server.port, slow_question) for _ in range(3)]
    counted, stalled = [before["vllm:generation_tokens_total"]], 0
    while stalled < 5 and len(counted) < 400:  # until nothing more is generated
        time.sleep(0.1)
        counted.append(server.metrics()["vllm:generation_tokens_total"])
        stalled = stalled + 1 if counted[-1] == counted[-2] and counted[-1] > counted[0] else 0
    generated = counted[-1] - counted[0]
    check(stalled == 5 and generated < 3 * 1400, f"{generated} tokens were generated for readers that do not read")
    check(good_problem(server.port) is None, "others are not answered while some do not read")
    start = time.monotonic()
    check(ask(server.port, endless(300)).status == 200, "a long answer while others do not read")
    grown = anonymous_kib([server.process.pid]) - memory
    check(grown < 4096, f"memory grew by {grown} KiB for three readers that do not read")
    print(f"three that do not read stopped at {generated / 3:.0f} of 1600 tokens each, {grown} KiB more memory; "
          f"300 tokens for another in {time.monotonic() - start:.2f} s meanwhile")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for text in pool.map(SlowReader.read_all, slow):
            check(text == quick_text, "a slow reader's text differs from a quick one's")
    seconds = until(lambda: server.metrics()["atoll_kv_blocks_free"] == free)
    check(seconds is not None, "blocks of slow readers stay taken")


class Streaming:
    """A stream that is read in the background."""

    def __init__(self, port, tokens):
        self.client = connect(port)
        self.client.sendall(endless(tokens, stream=True))
        self.response, self.error, self.started = None, None, threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            with self.client, self.client.makefile("rb") as reader:
                reader.peek(1)
                self.started.set()
                self.response = Response(reader)
        except (OSError, ValueError) as error:
            self.error = error
            self.started.set()

    def events(self):
        self.thread.join(60)
        if self.response is None:
            raise AssertionError(f"a stream was cut: {self.error}")
        return self.response.events()


def exit_code(server, seconds):
    took = until(lambda: server.process.poll() is not None, seconds)
    return server.process.returncode if took is not None else f"still running after {seconds} s"


def drain():
    """Running streams finish; whoever comes then is sent away; nothing stays."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server(ranks=4, tp=2) as server:
            idle = connect(server.port)  # kept open and silent: nobody waits for it
            processes = [pid for pid, _ in server.descendants()]
            streams = [Streaming(server.port, 600) for _ in range(4)]
            for stream in streams:
                stream.started.wait(30)
            server.process.send_signal(number)
            check(until(lambda: ask(server.port, request("GET", "/health")).status == 503, 10) is not None,
                  f"signal {number}: /health does not say that it drains")
            problem = error_problem(ask(server.port, request("POST", CHAT, chat_question())), 503, "draining")
            check(problem is None, f"signal {number}: a new request: {problem}")
            for stream in streams:
                events = stream.events()
                check(events[-1] == "[DONE]" and json.loads(events[-2])["choices"][0]["finish_reason"] == "length" and
                      len(events) == 601, f"signal {number}: a stream of {len(events)} events ends with {events[-2:]}")
            code = exit_code(server, 30)
            check(code == 0, f"signal {number}: exit code {code}")
            check(not alive(processes), f"signal {number}: processes are left")
            idle.close()


def at_once():
    """The second signal, and the end of --shutdown-timeout: streams end with an error that says so."""
    for way, args, signals in (("second SIGTERM", [], 2), ("timeout", ["--shutdown-timeout", "0.5"], 1)):
        with Server(ranks=2, tp=1, args=args) as server:
            processes = [pid for pid, _ in server.descendants()]
            stream = Streaming(server.port, 4000)
            stream.started.wait(30)
            server.process.send_signal(signal.SIGTERM)
            if signals == 2:
                until(lambda: ask(server.port, request("GET", "/health")).status == 503, 10)
                server.process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            code = exit_code(server, 30)
            seconds = time.monotonic() - start
            check(code == 0 and seconds < 10, f"{way}: exit code {code} after {seconds:.1f} s")
            check(not alive(processes), f"{way}: processes are left")
            if signals == 1:  # there is time for the last words
                events = stream.events()
                check(events[-1] == "[DONE]" and "shutting down" in json.loads(events[-2])["error"]["message"],
                      f"{way}: the stream ends {events[-2:]}")
            stream.thread.join(30)
            print(f"{way}: gone {seconds:.2f} s later")


def main():
    with Server(ranks=4, tp=2) as server:
        leavers(server)
        slow_readers(server)
        check(server.metrics()["atoll_restarts_total"] == 0, "ranks were lost on the way")
    drain()
    at_once()
    print("\n".join(map(str, failures[:20])) or "clients leave and stall alone, and a server leaves in order")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
