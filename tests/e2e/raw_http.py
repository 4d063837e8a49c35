"""HTTP as bytes: what a client that does everything wrong sends, and what came back.

    response = ask(port, request("POST", "/v1/chat/completions", {"messages": [...]}))
    response.status, response.headers["content-type"], response.json()
"""
import json
import socket


def request(method, path, body=b"", headers=(), version="HTTP/1.1"):
    """The bytes of one request; a body that is no bytes becomes JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} {version}", "Host: test", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


class Response:
    def __init__(self, reader, head=False):
        line = reader.readline().decode("latin-1")
        if not line:
            raise ConnectionError("closed without a response")
        self.version, status, *_ = line.split(" ", 2)
        self.status = int(status)
        self.headers = {}
        while True:
            line = reader.readline().decode("latin-1").rstrip("\r\n")
            if not line:
                break
            name, value = line.split(":", 1)
            self.headers[name.lower()] = value.strip()
        self.chunks = None
        if head or self.status == 100:
            self.body = b""
        elif "content-length" in self.headers:
            self.body = reader.read(int(self.headers["content-length"]))
        elif self.headers.get("transfer-encoding") == "chunked":
            self.chunks = []
            while True:
                size = int(reader.readline(), 16)
                data = reader.read(size)
                reader.readline()
                if size == 0:
                    break
                self.chunks.append(data)
            self.body = b"".join(self.chunks)
        else:
            self.body = reader.read()

    def json(self):
        return json.loads(self.body)

    def events(self):
        """What follows "data: " in each server-sent event, in order; comments are left out."""
        text = self.body.decode()
        if not text.endswith("\n\n"):
            raise ValueError(f"the stream ends in the middle of an event: {text[-80:]!r}")
        frames = [frame for frame in text[:-2].split("\n\n") if not frame.startswith(":")]
        if any(not frame.startswith("data: ") or "\n" in frame for frame in frames):
            raise ValueError(f"not one data line an event: {frames}")
        return [frame[6:] for frame in frames]


def connect(port, timeout=60, receive_buffer=None):
    client = socket.socket()
    if receive_buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.settimeout(timeout)
    client.connect(("127.0.0.1", port))
    return client


def ask(port, data, head=False):
    """Sends bytes, returns the first response. A server that answers before it has read all is no error."""
    with connect(port) as client:
        try:
            client.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        with client.makefile("rb") as reader:
            return Response(reader, head)
