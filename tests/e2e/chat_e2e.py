#!/usr/bin/env python3
"""`atoll chat` as a person uses it, in a terminal of its own, and as a script does, through a pipe."""
import os
import re
import signal
import subprocess
import sys
import time

from cluster import ATOLL, GOLDEN, MODEL, MPI_ENV, alive, descendants
from terminal import Terminal

CHAT = [ATOLL, "chat", MODEL, "--ranks", "4", "--tp", "2", "--temperature", "0"]
STORY = "Tell a story about Lena, a dog and a cup."
NAME = "My name is Lena. Remember it."
ASK_NAME = "What is my name?"
PROMPT = "\n> "


def script(text, *args, command=CHAT):
    return subprocess.run([*command, *args], input=text, capture_output=True, text=True, timeout=300,
                          env={**os.environ, **MPI_ENV})


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def answer(terminal, question):
    """Types a question; what is shown until the next prompt, as one line."""
    terminal.type(question + "\r")
    terminal.expect(question)
    return terminal.expect(PROMPT)[:-len(PROMPT)].replace("\r", "").strip("\n")


def a_conversation():
    nobody = script(ASK_NAME + "\n").stdout.strip()
    check(nobody and "Lena" not in nobody, f"without a history the name is {nobody!r}")
    with Terminal(CHAT, MPI_ENV) as terminal:
        banner = terminal.expect(PROMPT)
        check("4 ranks in 2 attention groups" in banner, f"the banner says {banner!r}")
        check(answer(terminal, "What is 87 + 64?") == "87 + 64 = 151.", terminal.shown)
        answer(terminal, NAME)
        check(answer(terminal, ASK_NAME) == "Your name is Lena.", "the history is lost: " + terminal.shown)
        check("a new conversation" in answer(terminal, "/clear"), "no word on /clear")
        check(answer(terminal, ASK_NAME) == nobody, "/clear did not clear: " + terminal.shown)
        check("Ctrl-C stops" in answer(terminal, "/help"), "no help")
        check("no command /jump" in answer(terminal, "/jump"), "an unknown command passes")
        answer(terminal, "What is 87 + 64?")

        # Editing: a line given up with Ctrl-C, the one before it recalled and mended.
        time.sleep(0.5)  # until the prompt is listened to: what comes before is the terminal's own to echo
        terminal.type("half a line")
        terminal.expect("half a line")
        terminal.type("\x03")
        check("leaves" not in terminal.expect(PROMPT), "Ctrl-C on a line that is not empty offers to leave")
        terminal.type("\x1b[A")
        terminal.expect("What is 87 + 64?")
        terminal.type("\x7f\x7f5?é\x7f\r")
        terminal.expect("87 + 65 = 152.")
        terminal.expect(PROMPT)

        # Twice at an empty prompt leaves, and nothing stays.
        processes = [pid for pid, _ in descendants(terminal.process.pid)]
        terminal.type("\x03")
        terminal.expect("Ctrl-C once more, or Ctrl-D, leaves")
        terminal.expect(PROMPT)
        terminal.type("\x03")
        check(terminal.wait() == 0, f"exit code {terminal.process.returncode}")
        check(not alive(processes), "processes are left")


def letters(text):
    """What is the same in a pipe and in a terminal, which is shown no control characters and breaks lines its own way."""
    return re.sub("[^A-Za-z0-9]", "", text)


def long_answers():
    """Very hot, the model talks nonsense for as long as it may: time to do something in the middle of it."""
    hot = [ATOLL, "chat", MODEL, "--ranks", "4", "--tp", "2", "--temperature", "50", "--seed", "2", "--max-tokens", "2000"]
    whole = letters(script("Tell a story.\n", command=hot).stdout)
    check(len(whole) > 2000, f"not long: {whole!r}")
    with Terminal(hot, MPI_ENV) as terminal:
        terminal.expect(PROMPT)
        terminal.type("Tell a story.\r")
        terminal.expect("Tell a story.\r\n")
        terminal.read_more(100)
        terminal.type("\x03")  # the answer stops, the program does not
        part = letters(terminal.expect("[stopped]"))
        check(len(part) < len(whole) - 500, f"Ctrl-C stopped after {len(part)} of {len(whole)} letters")
        terminal.expect(PROMPT)
        answer(terminal, "/clear")

        # A rank dies in the middle: the same text, some time later.
        terminal.type("Tell a story.\r")
        terminal.expect("Tell a story.\r\n")
        terminal.read_more(100)
        ranks = [pid for pid, name in descendants(terminal.process.pid) if name.startswith("atoll-worker")]
        check(len(ranks) == 4, f"{len(ranks)} ranks")
        os.kill(ranks[1], signal.SIGKILL)
        text = letters(terminal.expect("[cut after 2000 tokens")[:-len("[cut after 2000 tokens")])
        check(text == whole, f"after a killed rank: {text!r} is not {whole!r}")
        terminal.expect(PROMPT)

        # Signals in the middle of an answer.
        processes = [pid for pid, _ in descendants(terminal.process.pid)]
        terminal.type("Tell a story.\r")
        terminal.expect("Tell a story.\r\n")
        terminal.read_more(100)
        os.kill(terminal.process.pid, signal.SIGTERM)
        check(terminal.wait() == 0, f"SIGTERM: exit code {terminal.process.returncode}")
        check(not alive(processes), "SIGTERM: processes are left")


def other_ways_out():
    for way, keys in (("Ctrl-D", "\x04"), ("/exit", "/exit\r"), ("a terminal that is dumb", "\x04")):
        with Terminal([ATOLL, "chat", MODEL, "--temperature", "0"], MPI_ENV,
                      "dumb" if "dumb" in way else "xterm") as terminal:
            terminal.expect(PROMPT)
            check(answer(terminal, "What is 87 + 64?") == "87 + 64 = 151.", f"{way}: {terminal.shown}")
            terminal.type(keys)
            check(terminal.wait() == 0, f"{way}: exit code {terminal.process.returncode}")
    # Typed while an answer is written, it leaves at the next prompt: the terminal reads lines then, and keeps a zero byte.
    with Terminal([ATOLL, "chat", MODEL, "--temperature", "0"], MPI_ENV) as terminal:
        terminal.expect(PROMPT)
        terminal.type(STORY + "\r")
        terminal.expect(STORY)
        terminal.read_more(20)
        terminal.type("\x04")
        check(terminal.wait() == 0, f"Ctrl-D ahead: exit code {terminal.process.returncode}")
    with Terminal([ATOLL, "chat", MODEL, "--temperature", "0"], MPI_ENV) as terminal:
        terminal.expect(PROMPT)
        processes = [pid for pid, _ in descendants(terminal.process.pid)]
        os.kill(terminal.process.pid, signal.SIGHUP)
        check(terminal.wait() == 0, f"SIGHUP: exit code {terminal.process.returncode}")
        check(not alive(processes), "SIGHUP: processes are left")


def scripts():
    run = script(f"What is 87 + 64?\n\n/clear\n{NAME[:16]} \\\n{NAME[17:]}\n{ASK_NAME}\n//exit\n/exit\nnever")
    lines = run.stdout.splitlines()
    check(run.returncode == 0 and lines[0] == "87 + 64 = 151." and lines[2] == "Your name is Lena." and len(lines) == 4,
          f"script: {run.returncode} {run.stdout!r} {run.stderr!r}")
    check(run.stderr == "", f"a script hears {run.stderr!r}")
    drawn = [ATOLL, "chat", MODEL, "--temperature", "1.2", "--top-p", "0.98", "--top-k", "40", "--seed"]
    seeded = [script(STORY, command=drawn + [seed]).stdout for seed in ("5", "5", "6")]
    check(seeded[0] == seeded[1] != seeded[2], f"--seed does not choose the answer: {seeded}")
    short = script(STORY, "--max-tokens", "5")
    check("cut after 5 tokens" in short.stderr and len(short.stdout) < 40, f"--max-tokens: {short}")
    system = script("What is 87 + 64?", "--system", "You are a calculator.")
    check(system.returncode == 0 and system.stdout, f"--system: {system}")

    # A conversation that outgrows its context: said with both numbers and the way on, and the way works.
    full = script(3 * f"{STORY}\n" + "/clear\nWhat is 87 + 64?\n", "--kv-tokens", "128")
    check("128 tokens" in full.stderr and "/clear begins a new" in full.stderr, f"context: {full.stderr!r}")
    check(full.returncode == 2 and full.stdout.endswith("87 + 64 = 151.\n"), f"context: {full}")
    for args, word in ((["--top-k", "-7"], "top_k"), (["--top-p", "2"], "top_p"),
                       (["--max-tokens", "-5"], "max-tokens"), (["--seed", "x"], "seed"), (["--tp", "3"], "tp")):
        bad = script("Hi\n", *args)
        check(bad.returncode == 2 and word in bad.stderr and bad.stdout == "", f"{args}: {bad}")
    bad = script("Hi\n", command=[ATOLL, "chat", os.path.join(GOLDEN, "deepseek_v3")])
    check(bad.returncode == 2 and "tokenizer" in bad.stderr, f"a model without a tokenizer: {bad}")


def main():
    a_conversation()
    long_answers()
    other_ways_out()
    scripts()
    print("a conversation in a terminal, all ways out, scripts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
