"""Starts and talks to a real Atoll for the end-to-end tests.

    with Server(ranks=4, tp=2) as server:
        answer = server.chat([{"role": "user", "content": "What is 87 + 64?"}], max_tokens=64, temperature=0)
        answer.text, answer.finish, answer.usage
"""
import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("ATOLL_BIN", os.path.join(SOURCE, "build/release/bin"))
ATOLL = os.path.join(BIN, "atoll")
MODEL = os.path.join(SOURCE, "models/checkpoints/tiny-deepseek-v3")
GOLDEN = os.path.join(SOURCE, "tests/golden")
MPI_ENV = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def end_with_us():
    """In a child before it runs its program: SIGTERM for it when this process is gone, however that came about."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Answer:
    """One request's stream: text, finish reason, usage, error; `times` are the arrivals of text."""

    def __init__(self):
        self.text, self.finish, self.usage, self.error = "", None, None, None
        self.times, self.done = [], False


class Server:
    def __init__(self, model=MODEL, ranks=4, tp=2, transport="mpi", args=()):
        self.port, self.grpc_port = free_port(), free_port()
        self.log_path = tempfile.NamedTemporaryFile(prefix="atoll-", suffix=".log", delete=False).name
        self.log = open(self.log_path, "w")
        self.process = subprocess.Popen(
            [ATOLL, "serve", "--model", model, "--ranks", str(ranks), "--tp", str(tp), "--transport", transport,
             "--port", str(self.port), "--grpc-port", str(self.grpc_port), *args],
            stdout=self.log, stderr=self.log, env={**os.environ, **MPI_ENV}, start_new_session=True,
            preexec_fn=end_with_us)

    def __enter__(self):
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None:
            self.discard_log()

    def discard_log(self):
        self.log.close()
        os.unlink(self.log_path)

    def log_text(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_ready(self, seconds=90, statuses=(200,)):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"serve ended with {self.process.returncode}:\n{self.log_text()[-3000:]}")
            try:
                if self.get("/health")[0] in statuses:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"not ready after {seconds} s:\n{self.log_text()[-3000:]}")

    def wait_listening(self):
        self.wait_ready(statuses=(200, 503))

    def stop(self, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise RuntimeError(f"serve did not stop {seconds} s after SIGTERM:\n{self.log_text()[-3000:]}")
        return self.process.returncode

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, path, body, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request("POST", path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metrics(self):
        values = {}
        for line in self.get("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name.split("{")[0]] = values.get(name.split("{")[0], 0) + float(value)
        return values

    def chat(self, messages, cancel_after=None, answer=None, timeout=180, **fields):
        """Streams one chat completion; leaves (closes the connection) after `cancel_after` pieces if given."""
        answer = answer or Answer()
        body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **fields}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                answer.error = f"{response.status} {response.read().decode()}"
                return answer
            for line in response:
                line = line.decode().rstrip("\n")
                if not line.startswith("data: "):
                    continue
                if line == "data: [DONE]":
                    answer.done = True
                    break
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    answer.error = json.dumps(chunk["error"])
                    continue
                for choice in chunk["choices"]:
                    if choice["delta"].get("content"):
                        answer.text += choice["delta"]["content"]
                        answer.times.append(time.monotonic())
                    answer.finish = choice.get("finish_reason") or answer.finish
                answer.usage = chunk.get("usage") or answer.usage
                if cancel_after is not None and len(answer.times) >= cancel_after:
                    break
        finally:
            connection.close()
        return answer

    def descendants(self):
        return descendants(self.process.pid)

    def ranks(self):
        return [pid for pid, name in self.descendants() if name.startswith("atoll-worker")]

    def mpirun(self):
        return [pid for pid, name in self.descendants() if name in ("mpirun", "orterun")]


def descendants(pid):
    """(pid, command name) of every process below `pid`."""
    children, names = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    stat = f.read()
            except OSError:
                continue
            name = stat[stat.index("(") + 1:stat.rindex(")")]
            fields = stat[stat.rindex(")") + 2:].split()
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(entry))
                names[int(entry)] = name
    found, todo = [], [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append((child, names[child]))
            todo.append(child)
    return found


def alive(pids, seconds=10):
    """Those of the processes that are still there after some patience."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def anonymous_kib(pids):
    """Anonymous resident memory (heap and shared segments, without file pages) of the processes, in KiB."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status") as f:
                for line in f:
                    if line.startswith(("RssAnon:", "RssShmem:")):
                        total += int(line.split()[1])
        except OSError:
            pass
    return total


def chat_question():
    """A chat request's body whose answer is "87 + 64 = 151."."""
    return {"messages": [{"role": "user", "content": "What is 87 + 64?"}], "max_tokens": 64, "temperature": 0}


def eval_cases(limit=None, min_margin=2e-3):
    with open(os.path.join(MODEL, "eval.jsonl")) as f:
        cases = [json.loads(line) for line in f]
    cases = [case for case in cases if case["min_margin"] > min_margin]
    return cases if limit is None else cases[::max(1, len(cases) // limit)][:limit]
