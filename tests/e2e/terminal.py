"""A program in a terminal of its own, typed at and read from as a person would.

    with Terminal([ATOLL, "chat", MODEL]) as terminal:
        terminal.expect("> ")
        terminal.type("What is 87 + 64?\r")
        shown = terminal.expect("> ")          # everything shown up to and with it, without escape sequences
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

from cluster import end_with_us

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()].|[=>])|[\x07\x0f]")


class Terminal:
    def __init__(self, command, env=None, term="xterm"):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        environment = {**os.environ, **(env or {}), "TERM": term, "LC_ALL": "C.UTF-8"}

        def own_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            end_with_us()

        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        preexec_fn=own_terminal, close_fds=True)
        os.close(slave)
        self.raw = b""
        self.shown = ""   # everything so far
        self.taken = 0    # of it, by expect

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.master)

    def read(self, seconds):
        """What came, within the time; False at the end of the program's output."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            got = os.read(self.master, 65536)
        except OSError:  # how a pty says that nobody holds the other side
            return False
        self.raw += got
        self.shown = ESCAPES.sub("", self.raw.decode("utf-8", "replace"))
        return bool(got)

    def expect(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while True:
            found = self.shown.find(text, self.taken)
            if found >= 0:
                piece = self.shown[self.taken:found + len(text)]
                self.taken = found + len(text)
                return piece
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{text!r} did not come within {seconds} s; shown: {self.shown[self.taken:]!r}")
            if not self.read(min(left, 1)) and self.shown.find(text, self.taken) < 0:
                raise AssertionError(f"the program ended without {text!r}; shown: {self.shown[self.taken:]!r}")

    def read_more(self, count, seconds=60):
        """Waits until `count` further characters are shown."""
        deadline = time.monotonic() + seconds
        while len(self.shown) < self.taken + count:
            if time.monotonic() > deadline or not self.read(1):
                raise AssertionError(f"no {count} characters came; shown: {self.shown[self.taken:]!r}")

    def type(self, text):
        os.write(self.master, text.encode())

    def wait(self, seconds=30):
        """The exit code, when the program has ended by itself."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        if self.process.poll() is None:
            raise AssertionError(f"still running after {seconds} s; shown: {self.shown[self.taken:]!r}")
        return self.process.returncode
